"""How much a device has told by all its visits so far, in a file."""

import json
import secrets
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file

from stillhouse.edge.device.privacy import PrivacyConfig, epsilon, loudness, protect
from stillhouse.edge.lesson import State
from stillhouse.errors import RunError
from stillhouse.files import write_atomically


@dataclass(frozen=True)
class PrivacyAccount:
    """The sum of what was told, in a file."""

    path: Path

    def spend(self, config: PrivacyConfig) -> tuple[float, float]:
        """Write a visit down, before anything of it leaves; gives epsilon of this visit and in total.

        Raises:
            RunError: the file is damaged or the disk refuses.
        """
        visits, squares = self.read()
        mu = loudness(config)
        write_atomically(self.path, json.dumps({"visits": visits + 1, "squares": squares + mu**2}) + "\n")
        return epsilon(mu, config.delta), epsilon((squares + mu**2) ** 0.5, config.delta)

    def read(self) -> tuple[int, float]:
        """Visits so far, and the sum of squares of their mu."""
        if not self.path.exists():
            return 0, 0.0
        try:
            table = json.loads(self.path.read_text())
            return int(table["visits"]), float(table["squares"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{self.path}: cannot be read ({error}); restore it, it says what was told") from error


def blurred(clone: Path, learnt: State, telling: set[str], config: PrivacyConfig) -> State:
    """What was learnt, shortened and blurred against the clone in a file, with noise that nobody can repeat."""
    return protect(learnt, load_file(clone), telling, config, secrets.randbits(63))
