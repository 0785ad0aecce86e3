"""Where versions and returns lie beside the state folder: nowhere, or in an object store that survives this machine.

A file's name holds the hash of its content, and is put into the store before the transaction that names it. So half a
put is named by nobody, a put that is repeated changes nothing, and a crash between the two is a put more.
"""

import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Collection
from pathlib import Path
from typing import Any

from stillhouse.errors import RunError, SettingsError

OWNER = "owner"
"""The object that names the core whose store it is."""


class Store(ABC):
    """Copies of the files of a state folder, by their names relative to it."""

    @abstractmethod
    def claim(self, core: str) -> None:
        """Mark an empty store as that of a core; `RunError` where it is another's, or refuses."""

    @abstractmethod
    def put(self, path: Path, name: str) -> None:
        """Copy a file durably; `RunError` where the store refuses."""

    @abstractmethod
    def complete(self, path: Path, name: str) -> None:
        """Copy a file unless there is a copy as long as it; `RunError` where the store refuses."""

    @abstractmethod
    def fetch(self, name: str, path: Path) -> None:
        """Bring a file back, as far as there is a copy; `RunError` where the store refuses."""

    @abstractmethod
    def drop(self, name: str) -> None:
        """Remove a copy, if there is one; `RunError` where the store refuses."""

    @abstractmethod
    def names(self) -> Collection[str]:
        """Of all copies; `RunError` where the store refuses."""


class Nowhere(Store):
    """The state folder is all there is."""

    def claim(self, core: str) -> None:
        """It is nobody's."""

    def put(self, path: Path, name: str) -> None:
        """Nothing is copied."""

    def complete(self, path: Path, name: str) -> None:
        """Nothing is lacking."""

    def fetch(self, name: str, path: Path) -> None:
        """Nothing comes back."""

    def drop(self, name: str) -> None:
        """Nothing is removed."""

    def names(self) -> Collection[str]:
        """None."""
        return ()


class ObjectStore(Store):
    """Copies under a prefix of any file system of fsspec, such as `s3://bucket/prefix`, for one core alone.

    Args:
        uri: the prefix.

    Raises:
        SettingsError: no such kind of store, or its driver is not installed.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        try:
            from fsspec.core import url_to_fs

            self._files, self._prefix = url_to_fs(uri, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise SettingsError(
                f"service.files: {error}; write a URI of fsspec and install its driver (for s3://: "
                "pip install 'stillhouse[s3]'), or leave it empty"
            ) from error

    def claim(self, core: str) -> None:
        """Mark an empty prefix; others must bear the mark of this core."""
        mark = self._key(OWNER)
        if not self._ask("exists", mark) and not self.names():
            self._make_room(OWNER)
            self._ask("pipe_file", mark, core.encode())
        if not self._ask("exists", mark) or self._ask("cat_file", mark) != core.encode():
            raise RunError(
                f"service.files: {self._uri} holds files of another core, which this one would sweep away; choose "
                "another prefix"
            )

    def put(self, path: Path, name: str) -> None:
        """Copy a file; the stores of fsspec show it whole or not at all, or are written over the next time."""
        self._make_room(name)
        self._ask("put_file", str(path), self._key(name))

    def complete(self, path: Path, name: str) -> None:
        """Copy a file unless there is a copy as long as it: one that broke off is shorter."""
        key = self._key(name)
        if not self._ask("exists", key) or self._ask("size", key) != path.stat().st_size:
            self.put(path, name)

    def fetch(self, name: str, path: Path) -> None:
        """Bring a file back under a temporary name of its own, since several may fetch it at once, then rename it."""
        if not self._ask("exists", self._key(name)):
            return
        try:
            descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            os.close(descriptor)
            try:
                self._ask("get_file", self._key(name), temporary)
                os.replace(temporary, path)
            finally:
                Path(temporary).unlink(missing_ok=True)
        except OSError as error:
            raise RunError(f"{path}: cannot be brought back ({error}); free space or make it writable") from error

    def drop(self, name: str) -> None:
        """Remove a copy."""
        if self._ask("exists", self._key(name)):
            self._ask("rm_file", self._key(name))

    def names(self) -> Collection[str]:
        """Of all copies."""
        names = [key.removeprefix(f"{self._prefix}/") for key in self._ask("find", self._prefix)]
        return [name for name in names if name != OWNER]

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}"

    def _make_room(self, name: str) -> None:
        """Make the folder of a name where there are folders: such paths have a root; others begin at a bucket."""
        if self._prefix.startswith("/"):
            self._ask("makedirs", self._key(name).rpartition("/")[0], True)  # no matter if it is there

    def _ask(self, what: str, *told: object) -> Any:
        try:
            return getattr(self._files, what)(*told)
        except Exception as error:  # every driver has its own kinds
            raise RunError(f"{self._uri}: the store refuses ({error}); make it reachable and writable") from error


def open_store(uri: str) -> Store:
    """The store of a setting; empty is `Nowhere`."""
    return ObjectStore(uri) if uri else Nowhere()
