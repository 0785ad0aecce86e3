"""What a device asks of its server: a clone, how a lease stands, and to take what was learnt."""

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from stillhouse.edge.device.line import Line
from stillhouse.edge.device.terms import MAX_SECONDS, Lease, printable, read_lease
from stillhouse.edge.invitation import Invitation
from stillhouse.errors import RunError
from stillhouse.files import digest_of_file, free_bytes

PART = 4 * 2**20
"""Bytes that are sent in one request."""
BLOCK = 2**16


class Client:
    """Asks one server in the name of one node; may be used by several threads.

    Args:
        invite: whom to ask and who asks.
        clock: seconds since 1970.

    Raises:
        SettingsError: key or authority of the invite cannot be read.
    """

    def __init__(self, invite: Invitation, clock: Callable[[], float] = time.time) -> None:
        self.invite, self._line = invite, Line(invite, clock)

    def close(self) -> None:
        """Hang up."""
        self._line.close()

    def lease(self) -> Lease:
        """Ask for a clone; an older lease of this node is lost.

        Raises:
            Wait: later. Unreachable: try again. RunError: refused, or too large.
        """
        return read_lease(self._line.answer("POST", "/v1/lease"))

    def state(self, lease: Lease) -> tuple[str, str]:
        """What became of a lease: `out`, `spooled`, `applied`, `refused` or `lost`, and why."""
        table = self._line.answer("GET", lease.path)
        return printable(table.get("state", "")), printable(table.get("reason", ""))

    def beat(self, lease: Lease) -> float:
        """Say that work goes on; gives the seconds that are left. Raises Ended when nobody wants it any more."""
        left = self._line.answer("POST", f"{lease.path}/beat").get("deadline")
        return float(left) if isinstance(left, (int, float)) and 0 <= left <= MAX_SECONDS else lease.deadline

    def fetch(self, lease: Lease, path: Path) -> None:
        """Download the clone to `path`, going on where an earlier attempt broke off.

        Raises:
            Unreachable: broken off; what came is kept.
            Ended: the lease is over.
            RunError: the server sends something else than it lent, or the disk has no room.
        """
        self._download(lease, path, "model", lease.size, lease.digest, f"clone of version {lease.version}")

    def fetch_questions(self, lease: Lease, path: Path) -> bool:
        """Download what may be answered instead of sending weights, as `fetch` does; whether it was not there yet."""
        if path.exists() and digest_of_file(path) == lease.questions:
            return False
        self._download(lease, path, "questions", lease.questions_size, lease.questions, "the core's questions")
        return True

    def _download(self, lease: Lease, path: Path, last: str, size: int, digest: str, named: str) -> None:
        part = path.with_name(f"{path.name}.part")
        have = part.stat().st_size if part.exists() else 0
        if free_bytes(path.parent) < 4 * size - min(have, size):
            raise RunError(f"{path.parent}: no room for {named}, {size} bytes, and what is made of it; free space")
        self._line.download(f"{lease.path}/{last}", part, size, digest, named)
        part.replace(path)

    def send(self, lease: Lease, path: Path) -> None:
        """Upload a return in parts, going on where an earlier attempt broke off.

        Raises:
            Unreachable: broken off; try again.
            Ended: it is not taken any more.
            RunError: refused for good.
        """
        size = path.stat().st_size
        with open(path, "rb") as file:
            whole = digest_of_file(path)
            with self._line.exchange("HEAD", f"{lease.path}/result") as response:
                told = response.headers.get("upload-offset", "0")
            offset = int(told) if re.fullmatch(r"\d{1,15}", told) and int(told) < size else 0
            while offset < size:
                count = min(PART, size - offset)
                file.seek(offset)
                digest = hashlib.sha256(file.read(count)).hexdigest()
                headers = {"upload-offset": str(offset), "content-length": str(count)}
                if offset + count == size:
                    headers |= {"upload-length": str(size), "upload-digest": whole}
                file.seek(offset)
                self._line.answer("PUT", f"{lease.path}/result", digest, headers, _blocks(file, count))
                offset += count


def _blocks(file: BinaryIO, count: int) -> Iterator[bytes]:
    while count and (block := file.read(min(BLOCK, count))):
        count -= len(block)
        yield block
