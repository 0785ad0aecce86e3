"""The device's side of the wire: HTTPS to one server with one pinned authority, every request signed.

What the server says is data, bounded and checked: nothing of it names a file, runs, or reaches a terminal unprinted.
"""

import hashlib
import json
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stillhouse.config import Table
from stillhouse.edge.device.terms import MAX_SECONDS, Lease, printable, read_lease
from stillhouse.edge.invitation import Invitation
from stillhouse.edge.signing import EMPTY, sign
from stillhouse.errors import RunError, SettingsError
from stillhouse.files import free_bytes

MAX_ANSWER = 4 * 2**20
"""Bytes of any other answer."""
PART = 4 * 2**20
"""Bytes that are sent in one request."""
BLOCK = 2**16
TIMEOUT = httpx.Timeout(60.0, connect=15.0)


class Unreachable(Exception):  # noqa: N818 (not an error: a link comes and goes)
    """The server did not answer, or broke off; to be tried again."""


class Wait(Exception):  # noqa: N818
    """The server wants to be asked later.

    Args:
        seconds: until then.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"asked to wait {seconds:g} s")
        self.seconds = seconds


class Ended(Exception):  # noqa: N818
    """The lease is over.

    Args:
        reason: in words.
        late: whether a return is taken all the same; None where the server did not say.
    """

    def __init__(self, reason: str, late: bool | None = None) -> None:
        super().__init__(reason)
        self.reason, self.late = reason, late


class Client:
    """Asks one server in the name of one node; may be used by several threads.

    Args:
        invite: whom to ask and who asks.
        clock: seconds since 1970.

    Raises:
        SettingsError: key or authority of the invite cannot be read.
    """

    def __init__(self, invite: Invitation, clock: Callable[[], float] = time.time) -> None:
        try:
            key = serialization.load_pem_private_key(invite.private_key.encode(), None)
            trust = ssl.create_default_context(cadata=invite.ca)
        except (ValueError, TypeError, ssl.SSLError) as error:
            raise SettingsError(f"invite of {invite.node}: damaged ({error}); ask for a new one") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise SettingsError(f"invite of {invite.node}: its key is not of Ed25519; ask for a new one")
        self.invite, self._key, self._clock = invite, key, clock
        self._http = httpx.Client(base_url=invite.url, verify=trust, timeout=TIMEOUT, trust_env=False)

    def close(self) -> None:
        """Hang up."""
        self._http.close()

    def lease(self) -> Lease:
        """Ask for a clone; an older lease of this node is lost.

        Raises:
            Wait: later. Unreachable: try again. RunError: refused, or too large.
        """
        return read_lease(self._answer("POST", "/v1/lease"))

    def state(self, lease: Lease) -> tuple[str, str]:
        """What became of a lease: `out`, `spooled`, `applied`, `refused` or `lost`, and why."""
        table = self._answer("GET", lease.path)
        return printable(table.get("state", "")), printable(table.get("reason", ""))

    def beat(self, lease: Lease) -> float:
        """Say that work goes on; gives the seconds that are left. Raises Ended when nobody wants it any more."""
        left = self._answer("POST", f"{lease.path}/beat").get("deadline")
        return float(left) if isinstance(left, (int, float)) and 0 <= left <= MAX_SECONDS else lease.deadline

    def fetch(self, lease: Lease, path: Path) -> None:
        """Download the clone to `path`, going on where an earlier attempt broke off.

        Raises:
            Unreachable: broken off; what came is kept.
            Ended: the lease is over.
            RunError: the server sends something else than it lent, or the disk has no room.
        """
        part = path.with_name(f"{path.name}.part")
        have = part.stat().st_size if part.exists() else 0
        if have > lease.size:
            part.unlink()
            have = 0
        if free_bytes(path.parent) < 4 * lease.size - have:
            raise RunError(f"{path.parent}: no room for a clone of {lease.size} bytes and its training; free space")
        if have < lease.size:
            self._download(lease, part, have)
        with open(part, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != lease.digest:
            part.unlink()
            raise RunError(
                f"clone of version {lease.version}: it is not the file that was lent (sha-256 {digest}); tell the "
                "owner of the server"
            )
        part.replace(path)

    def _download(self, lease: Lease, part: Path, have: int) -> None:
        wanted = {"range": f"bytes={have}-", "accept-encoding": "identity"}
        with self._exchange("GET", f"{lease.path}/model", headers=wanted) as response:
            goes_on = response.status_code == 206
            if goes_on and not response.headers.get("content-range", "").startswith(f"bytes {have}-"):
                raise RunError("the server sends other bytes of the clone than were asked for; tell its owner")
            count = have if goes_on else 0
            with open(part, "ab" if goes_on else "wb") as file:
                for block in response.iter_raw():
                    count += len(block)
                    if count > lease.size:
                        raise RunError(
                            f"the server sends more than the {lease.size} bytes of the clone; tell its owner"
                        )
                    file.write(block)
        if count < lease.size:
            raise Unreachable("the clone broke off")

    def send(self, lease: Lease, path: Path) -> None:
        """Upload a return in parts, going on where an earlier attempt broke off.

        Raises:
            Unreachable: broken off; try again.
            Ended: it is not taken any more.
            RunError: refused for good.
        """
        size = path.stat().st_size
        with open(path, "rb") as file:
            whole = hashlib.file_digest(file, "sha256").hexdigest()
            with self._exchange("HEAD", f"{lease.path}/result") as response:
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
                self._answer("PUT", f"{lease.path}/result", digest, headers, _blocks(file, count))
                offset += count

    def _answer(
        self,
        method: str,
        path: str,
        body_digest: str = EMPTY,
        headers: Mapping[str, str] | None = None,
        content: Iterator[bytes] | None = None,
    ) -> Table:
        with self._exchange(method, path, body_digest, headers, content) as response:
            return _table(response)

    @contextmanager
    def _exchange(
        self,
        method: str,
        path: str,
        body_digest: str = EMPTY,
        headers: Mapping[str, str] | None = None,
        content: Iterator[bytes] | None = None,
    ) -> Iterator[httpx.Response]:
        """A response whose body is still to be read; what is no success is raised."""
        request = self._http.build_request(method, path, headers=headers, content=content)
        target = request.url.raw_path.decode()
        request.headers.update(sign(self._key, self.invite.node, method, target, body_digest, now=self._clock()))
        try:
            response = self._http.send(request, stream=True)
            try:
                if not response.is_success:
                    self._refuse(response)
                yield response
            finally:
                response.close()
        except httpx.TransportError as error:
            if (refusal := _certificate_error(error)) is not None:
                raise RunError(
                    f"{self.invite.url}: not the server of the invite, or a clock is wrong ({refusal.verify_message}); "
                    "ask for a new invite"
                ) from error
            raise Unreachable(str(error) or type(error).__name__) from error

    def _refuse(self, response: httpx.Response) -> None:
        try:
            table = _table(response)
        except RunError:
            table = {}
        status = response.status_code
        reason = printable(table.get("reason") or table.get("error") or response.reason_phrase or status)
        if status == 410 or (status == 404 and "/lease/" in str(response.url)):
            late = table.get("late")
            raise Ended(reason, late if isinstance(late, bool) else None)
        if status == 429 or (status == 503 and "retry-after" in response.headers):
            seconds = response.headers.get("retry-after", "")
            raise Wait(min(3600.0, max(1.0, float(seconds))) if re.fullmatch(r"\d{1,9}(\.\d+)?", seconds) else 30.0)
        if status >= 500 or status in (408, 409, 425):
            raise Unreachable(reason)
        if status == 401:
            raise RunError(
                f"{self.invite.url}: does not take requests of {self.invite.node} ({reason}); see that this machine's "
                "clock is right, or ask for a new invite"
            )
        raise RunError(f"{self.invite.url}: refused ({status}, {reason}); tell the owner of the server")


def _blocks(file: Any, count: int) -> Iterator[bytes]:
    while count and (block := file.read(min(BLOCK, count))):
        count -= len(block)
        yield block


def _table(response: httpx.Response) -> Table:
    """The JSON object that an answer holds; nothing for an empty answer."""
    content = bytearray()
    for block in response.iter_raw():
        content += block
        if len(content) > MAX_ANSWER:
            raise RunError("the server answers with more than an answer needs; tell its owner")
    try:
        table = json.loads(content or b"{}")
    except (ValueError, RecursionError) as error:
        raise RunError("the server answers with something that is no JSON; is it a stillhouse server?") from error
    if not isinstance(table, dict):
        raise RunError("the server answers with something that is no answer; is it a stillhouse server?")
    return table


def _certificate_error(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error
        error = error.__cause__ or error.__context__
    return None
