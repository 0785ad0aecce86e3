"""A device and the service in one process: the same door and the same answers, without a wire.

For simulations and tests: nothing waits, and time is the clock's.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stillhouse.edge.service.door import Door
from stillhouse.edge.service.leases import Lease
from stillhouse.edge.service.service import Grant, Service
from stillhouse.edge.service.uploads import Part
from stillhouse.edge.signing import EMPTY, sign

BLOCK = 65536


@dataclass(frozen=True)
class InProcess:
    """What one device asks; every method raises the `Refusal` that it would be answered over HTTPS."""

    service: Service
    door: Door
    node: str
    key: Ed25519PrivateKey

    def lease(self) -> Grant:
        """Ask for a clone."""
        return self.service.lease(self._admitted("POST", "/v1/lease"))

    def model(self, lease: str, offset: int = 0) -> bytes:
        """The clone's file from `offset` on."""
        node = self._admitted("GET", f"/v1/lease/{lease}/model")
        return self._read(node, lease, self.service.model(node, lease), offset)

    def questions(self, lease: str, offset: int = 0) -> bytes:
        """The questions' file from `offset` on."""
        node = self._admitted("GET", f"/v1/lease/{lease}/questions")
        return self._read(node, lease, self.service.questions(node, lease), offset)

    def _read(self, node: str, lease: str, path: Path, offset: int) -> bytes:
        with open(path, "rb") as file:
            file.seek(offset)
            content = file.read()
        self.service.count(node, lease, down=len(content))
        return content

    def beat(self, lease: str) -> float:
        """Say that it still works: seconds left."""
        return self.service.beat(self._admitted("POST", f"/v1/lease/{lease}/beat"), lease)

    def state(self, lease: str) -> Lease:
        """What became of a lease; a device is only told `state` and `reason`."""
        return self.service.state(self._admitted("GET", f"/v1/lease/{lease}"), lease)

    def offset(self, lease: str) -> int:
        """How much of the return has come."""
        return self.service.offset(self._admitted("HEAD", f"/v1/lease/{lease}/result"), lease)

    def send(self, lease: str, body: bytes, offset: int = 0, cut: int | None = None) -> None:
        """Return the clone.

        Args:
            lease: it was sent under.
            body: the whole file.
            offset: where the last part ended.
            cut: bytes after which the line breaks; the call ends as if nothing had happened.
        """
        rest, digest = body[offset:], hashlib.sha256(body).hexdigest()
        part = Part(offset, len(rest), hashlib.sha256(rest).hexdigest(), len(body), digest)
        node = self._admitted("PUT", f"/v1/lease/{lease}/result", part.sha256)
        upload = self.service.receive(node, lease, part)
        if upload is None:
            return
        crossing = memoryview(rest)[: len(rest) if cut is None else cut]
        try:
            with self.service.transfer(lease):
                for begin in range(0, len(crossing), BLOCK):
                    upload.write(bytes(crossing[begin : begin + BLOCK]))
                if cut is None:
                    upload.finish()
        finally:
            upload.abandon()
        self.service.count(node, lease, up=len(crossing))

    def _admitted(self, method: str, path: str, body: str = EMPTY) -> str:
        return self.door.admit(
            method, path, sign(self.key, self.node, method, path, body, now=self.service.clock.now())
        )
