"""The one file that is carried to a device."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from stillhouse.errors import RunError, SettingsError


@dataclass(frozen=True)
class Invitation:
    """All that a device needs to join. Whoever holds it is that device: carry it there by a safe way."""

    url: str
    ca: str
    """Certificate of the authority that the server shows, as PEM."""
    node: str
    private_key: str
    """Of the node, as PEM."""

    @classmethod
    def read(cls, path: Path) -> "Invitation":
        """The invitation in a file.

        Raises:
            SettingsError: it is none, or its server is not reached by HTTPS.
        """
        try:
            table = json.loads(path.read_text())
            invitation = cls(*(str(table[key]) for key in ("url", "ca", "node", "private_key")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SettingsError(f"{path}: not an invite ({error!r}); take the file that `edge invite` wrote") from error
        if not invitation.url.startswith("https://"):
            raise SettingsError(f"{path}: url is {invitation.url!r}; only https is spoken, ask for a new invite")
        return invitation

    def write(self, path: Path) -> None:
        """Write the file, for its owner alone to read.

        Raises:
            RunError: there is such a file already, or it cannot be written.
        """
        try:
            with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
                json.dump(asdict(self), file, indent=2)
        except OSError as error:
            raise RunError(f"{path}: cannot be written ({error}); remove it or choose another folder") from error
