"""A return on its way in: written to disk block by block, hashed on the way, never held whole."""

import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from stillhouse.edge.service.refusals import Conflict, Gone, TooLarge
from stillhouse.errors import RunError
from stillhouse.files import digest_of_file, sync_folder


@dataclass(frozen=True)
class Part:
    """What a device says about what it is going to send."""

    offset: int
    """Bytes of the return that came before."""
    size: int
    """Bytes of this part."""
    sha256: str
    """Of this part, in hex; the signature holds it."""
    total: int = 0
    """Bytes of the whole return; said with the last part."""
    digest: str = ""
    """SHA-256 of the whole return; said with the last part, and with no other."""

    @property
    def is_last(self) -> bool:
        """Whether the return is whole after it."""
        return bool(self.digest)


class Upload:
    """One part being received. What came of it is kept when the line is cut, and the next part goes on there.

    Args:
        path: file of what has come so far; made where absent.
        body: name of the whole return.
        part: what was announced.
        record: called with digest and size when the whole return lies durably under `body`.
        close: called once, however it ends.
        passing: told each step that has been taken.
    """

    def __init__(
        self,
        path: Path,
        body: Path,
        part: Part,
        *,
        record: Callable[[str, int], None],
        close: Callable[["Upload"], None],
        passing: Callable[[str], None],
    ) -> None:
        self._path, self._body, self._part = path, body, part
        self._record, self._close, self._passing = record, close, passing
        self._hash, self._received = hashlib.sha256(), 0
        self._lock = threading.Lock()
        try:
            self._file: BinaryIO | None = os.fdopen(os.open(path, os.O_CREAT | os.O_RDWR, 0o600), "r+b")
            self._file.truncate(part.offset)
            self._file.seek(part.offset)
        except OSError as error:
            raise _refused(path, error) from error

    def write(self, block: bytes) -> None:
        """Take the next bytes.

        Raises:
            TooLarge: more come than were announced.
            Gone: the device began anew meanwhile, or the lease ended.
            RunError: the disk refuses.
        """
        with self._lock:
            file = self._opened()
            self._received += len(block)
            if self._received > self._part.size:
                raise TooLarge(f"the body is longer than the {self._part.size} bytes that were announced")
            self._hash.update(block)
            try:
                file.write(block)
            except OSError as error:
                raise _refused(self._path, error) from error

    def finish(self) -> None:
        """All bytes were written: check them, and if they complete the return, make it durable and record it.

        Raises:
            Conflict: they are fewer than announced, or not what was announced; `offset` says where to go on.
            Gone: the lease takes no return any more.
            RunError: the disk refuses.
        """
        with self._lock:
            file, part = self._opened(), self._part
            try:
                file.flush()
                if self._received < part.size:
                    raise Conflict("the body broke off", offset=part.offset + self._received)
                if self._hash.hexdigest() != part.sha256:
                    file.truncate(part.offset)
                    raise Conflict("the body is not the one that was signed", offset=part.offset)
                if part.is_last:
                    whole = part.sha256 if part.offset == 0 else digest_of_file(self._path)
                    if whole != part.digest:
                        file.truncate(0)
                        raise Conflict("the parts are not the body that was announced; begin anew", offset=0)
                    os.fsync(file.fileno())
                    self._passing("body written")
                    os.replace(self._path, self._body)
                    sync_folder(self._body.parent)
            except OSError as error:
                raise _refused(self._path, error) from error
        if part.is_last:
            self._passing("body named")
            self._record(part.digest, part.total)
        self.abandon()

    def abandon(self) -> None:
        """Receive no more; what came stays. Does nothing after the end."""
        with self._lock:
            file, self._file = self._file, None
        if file is not None:
            self._close(self)
            try:
                file.close()
            except OSError as error:
                raise _refused(self._path, error) from error

    def _opened(self) -> BinaryIO:
        if self._file is None:
            raise Gone("another request sends this return", state="out", cause="", late=True)
        return self._file


def _refused(path: Path, error: OSError) -> RunError:
    return RunError(f"{path}: cannot be written ({error}); free space on the server")
