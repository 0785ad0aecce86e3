"""A line to one server with one pinned authority: HTTPS, every request signed in the name of one node.

What the server says is data, bounded and checked: nothing of it names a file, runs, or reaches a terminal unprinted.
"""

import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stillhouse.config import Table
from stillhouse.edge.device.setbacks import Unreachable, read_table, setback
from stillhouse.edge.invitation import Invitation
from stillhouse.edge.signing import EMPTY, sign
from stillhouse.errors import RunError, SettingsError
from stillhouse.files import digest_of_file

TIMEOUT = httpx.Timeout(60.0, connect=15.0)


class Line:
    """Asks one server; may be used by several threads.

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

    def download(self, path: str, part: Path, size: int, digest: str, named: str) -> None:
        """Fetch a file, going on where an earlier attempt broke off.

        Args:
            path: on the server.
            part: where it grows; whole and checked afterwards.
            size: its bytes, as they were promised.
            digest: SHA-256 that it must have.
            named: what it is, for people.

        Raises:
            Unreachable: broken off; what came is kept.
            Ended: the lease is over.
            RunError: the server sends something else than it promised; what came is gone.
        """
        have = part.stat().st_size if part.exists() else 0
        if have > size:
            part.unlink()
            have = 0
        if have < size:
            self._append(path, part, have, size, named)
        found = digest_of_file(part)
        if found != digest:
            part.unlink()
            raise RunError(f"{named}: it is not the file that was lent (sha-256 {found}); tell the owner of the server")

    def _append(self, path: str, part: Path, have: int, size: int, named: str) -> None:
        wanted = {"range": f"bytes={have}-", "accept-encoding": "identity"}
        with self.exchange("GET", path, headers=wanted) as response:
            goes_on = response.status_code == 206
            if goes_on and not response.headers.get("content-range", "").startswith(f"bytes {have}-"):
                raise RunError(f"{named}: the server sends other bytes than were asked for; tell its owner")
            count = have if goes_on else 0
            with open(part, "ab" if goes_on else "wb") as file:
                for block in response.iter_raw():
                    count += len(block)
                    if count > size:
                        raise RunError(f"{named}: the server sends more than the {size} bytes of it; tell its owner")
                    file.write(block)
        if count < size:
            raise Unreachable(f"{named} broke off")

    def answer(
        self,
        method: str,
        path: str,
        body_digest: str = EMPTY,
        headers: Mapping[str, str] | None = None,
        content: Iterator[bytes] | None = None,
    ) -> Table:
        """The JSON object that a request is answered with; arguments and errors as of `exchange`."""
        with self.exchange(method, path, body_digest, headers, content) as response:
            return read_table(response)

    @contextmanager
    def exchange(
        self,
        method: str,
        path: str,
        body_digest: str = EMPTY,
        headers: Mapping[str, str] | None = None,
        content: Iterator[bytes] | None = None,
    ) -> Iterator[httpx.Response]:
        """A response whose body is still to be read; what is no success is raised.

        Args:
            method: of the request.
            path: on the server.
            body_digest: SHA-256 of the body, in hex.
            headers: beside those of the signature.
            content: the body in blocks.

        Raises:
            Unreachable: try again. Wait: later. Ended: the lease is over. RunError: refused for good.
        """
        request = self._http.build_request(method, path, headers=headers, content=content)
        target = request.url.raw_path.decode()
        request.headers.update(sign(self._key, self.invite.node, method, target, body_digest, now=self._clock()))
        try:
            response = self._http.send(request, stream=True)
            try:
                if not response.is_success:
                    raise setback(response, self.invite.node)
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


def _certificate_error(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error
        error = error.__cause__ or error.__context__
    return None
