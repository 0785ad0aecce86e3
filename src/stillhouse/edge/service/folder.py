"""The state folder of a service: the core's versions, and returns on their way in.

STATE/  core.toml  start.safetensors  questions.safetensors  edge.db  authority/
        versions/00000012-DIGEST.safetensors    each kept until the last lease of it has ended
        spool/LEASE.part, LEASE-DIGEST.safetensors

Versions and whole returns are kept in the store, too, if there is one, and come back from there when the folder lacks
them.
"""

import fcntl
import hashlib
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError

from stillhouse.edge.lesson import State
from stillhouse.edge.service.stores import Nowhere, Store
from stillhouse.errors import RunError
from stillhouse.files import digest_of_file, write_atomically


@dataclass(frozen=True)
class StateFolder:
    """Names of the files, and how weights are written and read."""

    path: Path
    store: Store = field(default_factory=Nowhere)
    """Where versions and returns are kept, too."""

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

    def version_file(self, version: int, digest: str) -> Path:
        """Weights of a version; never written over by others that might have become it."""
        return self.versions / f"{version:08d}-{digest[:16]}.safetensors"

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
            RunError: the disk or the store refuses; nothing appears under the name.
        """
        content = safetensors.torch.save({name: value.contiguous() for name, value in state.items()})
        digest = hashlib.sha256(content).hexdigest()
        path = self.version_file(version, digest)
        write_atomically(path, content)
        self.keep(path)
        return digest, len(content)

    def read_version(self, version: int, digest: str) -> State:
        """Weights of a version, mapped from its file.

        Raises:
            RunError: the file is absent, or not what was written.
        """
        return read_weights(self.fetch(self.version_file(version, digest)), digest)

    def keep(self, path: Path) -> None:
        """Copy a file into the store; `RunError` where that refuses."""
        self.store.put(path, self._name(path))

    def fetch(self, path: Path) -> Path:
        """The same path, brought back from the store where the folder lacks it; `RunError` where the store refuses."""
        if not path.exists():
            self.store.fetch(self._name(path), path)
        return path

    def remove(self, path: Path) -> None:
        """Remove a version or a whole return, if it is there; `RunError` where the store refuses."""
        path.unlink(missing_ok=True)
        self.store.drop(self._name(path))

    def complete(self, kept: Collection[Path]) -> None:
        """Put into the store what of these files lies here and is not in it: it may be newer than they are."""
        for path in kept:
            if path.exists():
                self.store.complete(path, self._name(path))

    def sweep(self, kept: Collection[Path]) -> None:
        """Remove what a crash left of versions and returns, here and in the store: all but these files."""
        for folder in (self.versions, self.spool):
            for path in folder.iterdir():
                if path not in kept:
                    path.unlink(missing_ok=True)
        for name in set(self.store.names()) - {self._name(path) for path in kept}:
            if name.startswith((f"{self.versions.name}/", f"{self.spool.name}/")):  # what else is there, is not its own
                self.store.drop(name)

    def drop_versions(self, below: int, needed: Collection[int]) -> None:
        """Remove the versions before `below`, except those that leases still need."""
        for path in self.versions.glob("????????-*.safetensors"):
            version = int(path.name.partition("-")[0])
            if version < below and version not in needed:
                self.remove(path)

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.path))


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
