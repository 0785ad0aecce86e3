"""The state folder of a service: the core's versions, and returns on their way in.

STATE/  core.toml  start.safetensors  questions.safetensors  edge.db  authority/
        versions/00000012.safetensors    each kept until the last lease of it has ended
        spool/LEASE.part, LEASE-DIGEST.safetensors
"""

import fcntl
import hashlib
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError

from stillhouse.edge.lesson import State
from stillhouse.errors import RunError
from stillhouse.files import write_atomically

BLOCK = 1 << 20


@dataclass(frozen=True)
class StateFolder:
    """Names of the files, and how weights are written and read."""

    path: Path

    @property
    def core_file(self) -> Path:
        """What the core is and how it is taught."""
        return self.path / "core.toml"

    @property
    def start_file(self) -> Path:
        """The weights that the core begins from."""
        return self.path / "start.safetensors"

    @property
    def questions_file(self) -> Path:
        """Images that devices may be asked about; written anew at every start."""
        return self.path / "questions.safetensors"

    @property
    def authority(self) -> Path:
        """Certificates."""
        return self.path / "authority"

    @property
    def database_url(self) -> str:
        """Where the tables lie unless told otherwise."""
        return f"sqlite:///{self.path / 'edge.db'}"

    @property
    def versions(self) -> Path:
        """Where the core's versions lie."""
        return self.path / "versions"

    @property
    def spool(self) -> Path:
        """Where returns lie until they have taught."""
        return self.path / "spool"

    def version_file(self, version: int) -> Path:
        """Weights of a version."""
        return self.versions / f"{version:08d}.safetensors"

    def part_file(self, lease: str) -> Path:
        """What has come of a return."""
        return self.spool / f"{lease}.part"

    def body_file(self, lease: str, digest: str) -> Path:
        """A return that came whole; never written over by another body."""
        return self.spool / f"{lease}-{digest}.safetensors"

    def make(self) -> None:
        """Make the folders, for nobody else to read; `RunError` where that fails."""
        try:
            for folder in (self.path, self.versions, self.spool):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{self.path}: cannot be used as a state folder ({error}); choose another") from error

    def lock(self) -> int:
        """Keep other services from this folder until the descriptor is closed; `RunError` where one is at work."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise RunError(f"{self.path}: another service is at work here; stop it first") from error
        return descriptor

    def write_version(self, version: int, state: State) -> tuple[str, int]:
        """Write weights durably; the same weights give the same bytes.

        Returns:
            their SHA-256 and their number.

        Raises:
            RunError: the disk refuses; nothing appears under the name.
        """
        content = safetensors.torch.save({name: value.contiguous() for name, value in state.items()})
        write_atomically(self.version_file(version), content)
        return hashlib.sha256(content).hexdigest(), len(content)

    def read_version(self, version: int, digest: str) -> State:
        """Weights of a version, mapped from its file.

        Raises:
            RunError: the file is absent, or not what was written.
        """
        return read_weights(self.version_file(version), digest)

    def sweep(self, kept: Collection[Path]) -> None:
        """Remove what a crash left of versions and returns: all but these files."""
        for folder in (self.versions, self.spool):
            for path in folder.iterdir():
                if path not in kept:
                    path.unlink(missing_ok=True)

    def drop_versions(self, below: int, needed: Collection[int]) -> None:
        """Remove the versions before `below`, except those that leases still need."""
        for path in self.versions.glob("*.safetensors"):
            if path.stem.isdecimal() and int(path.stem) < below and int(path.stem) not in needed:
                path.unlink(missing_ok=True)


def read_weights(path: Path, digest: str = "") -> State:
    """Tensors of a safetensors file, on the CPU, in the order of their names.

    Args:
        path: the file.
        digest: SHA-256 that it must have, if known.

    Raises:
        RunError: it is absent or damaged.
    """
    try:
        if digest and digest_of_file(path) != digest:
            raise RunError(f"{path}: not the weights that were written; restore this file from a copy")
        return in_order(safetensors.torch.load_file(path))
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path}: cannot be read ({error}); restore this file from a copy") from error


def in_order(state: State) -> State:
    """The same by name, so that what a lesson adds up in turn is the same before and after a restart."""
    return dict(sorted(state.items()))


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file, in hex, read block by block."""
    hashed = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            hashed.update(block)
    return hashed.hexdigest()
