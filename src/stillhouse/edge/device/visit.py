"""A visit: a clone learns from the images of one device, in a run directory that may be killed and gone on with.

A visit is a folder. What lies in it says how far it is:

    lease.json            what was lent; without it the folder is rubbish
    clone.safetensors     the clone, whole
    run/                  the run directory
    return.safetensors    what goes back; training is over

A device that sends no weights has these instead of the last:

    answers.safetensors   what goes back: what the trained clone says about the questions

The questions lie beside the folder, in questions.safetensors: they are the same for many visits.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save

from stillhouse.config import to_table
from stillhouse.edge.device.terms import Lease, read_lease
from stillhouse.edge.lesson import State
from stillhouse.errors import RunError
from stillhouse.files import write_atomically
from stillhouse.recipes.directory import Run


@dataclass(frozen=True)
class Visit:
    """The folder of a visit.

    Args:
        folder: its place.
        answers: whether only answers go back. Weights that an earlier process left here to be sent then stay here.
    """

    folder: Path
    answers: bool = False

    @property
    def clone(self) -> Path:
        """The weights that came."""
        return self.folder / "clone.safetensors"

    @property
    def run(self) -> Run:
        """Where they learn."""
        return Run(self.folder / "run")

    @property
    def returned(self) -> Path:
        """What goes back."""
        return self.folder / ("answers.safetensors" if self.answers else "return.safetensors")

    @property
    def questions(self) -> Path:
        """The questions that came, with this visit or an earlier one."""
        return self.folder.with_name("questions.safetensors")

    @property
    def _lease(self) -> Path:
        return self.folder / "lease.json"

    def begin(self, lease: Lease, until: float) -> None:
        """Keep what was lent, and its deadline in seconds since 1970; what lay here is gone."""
        self.clear()
        write_atomically(self._lease, json.dumps({"until": until, "lease": to_table(lease)}))

    def read(self) -> tuple[Lease, float] | None:
        """What was lent, and its deadline; None where nothing is, or nothing that can be read."""
        try:
            table = json.loads(self._lease.read_text())
            return read_lease(table["lease"]), float(table["until"])
        except (OSError, ValueError, KeyError, TypeError, RunError):
            return None

    def clear(self) -> None:
        """The visit is over."""
        self._lease.unlink(missing_ok=True)
        if self.folder.exists():
            shutil.rmtree(self.folder)


def write_return(visit: Visit, leaving: State) -> int:
    """Keep what goes back, exactly the tensors and nothing about them; gives its bytes."""
    packed = save(dict(leaving))
    write_atomically(visit.returned, packed)
    return len(packed)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other processes from joining with this folder, which is made where absent.

    Raises:
        RunError: one has joined with it, or it cannot be used.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise RunError(f"{folder}: cannot be used ({error}); choose another --state") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise RunError(f"{folder}: another process has joined with it; choose another --state") from error
    finally:
        os.close(descriptor)
