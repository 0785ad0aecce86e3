"""Random and mutated requests and returns: each is answered or cut off, none is the server's fault or changes anything.

Five hundred of each in every run, ten thousand with `-m slow`.
"""

import asyncio
import contextlib
import dataclasses
import hashlib
import logging
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stillhouse.edge.service.serving import listen, running
from stillhouse.edge.service.validation import MalformedReturnError, read_return
from stillhouse.edge.service.web import edge_app
from stillhouse.edge.signing import BODY, EMPTY, NODE, NONCE, SIGNATURE, TIME, sign
from tests.edge.service.conftest import MakeFleet
from tests.edge.service.fleet import START, UNHURRIED, WALL, Fleet
from tests.edge.service.snapshot import snapshot
from tests.edge.service.test_returns import GOOD
from tests.edge.service.test_security import CLIMBING, ENDPOINTS, STRANGER

NUMBERS = [pytest.param(500, id="500"), pytest.param(10_000, id="10000", marks=pytest.mark.slow)]
SIGNED = (NODE, TIME, NONCE, BODY, SIGNATURE)
IMPATIENT = dataclasses.replace(UNHURRIED, silence_seconds=0.5)
METHODS = ["GET", "POST", "PUT", "HEAD", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get", "X" * 300, ""]
VALUES = [
    "",
    "0",
    "-1",
    "1e3",
    "9" * 30,
    "nan",
    "a",
    "\xff\xfe",
    "x" * 3000,
    "../..",
    "%00",
    "a\x00b",
    "1, 2",
    "\u0663",
]
EXTRA = [
    ("content-length", "5"), ("content-length", "-5"), ("content-length", "9" * 25), ("transfer-encoding", "chunked"),
    ("transfer-encoding", "gzip, chunked"), ("content-encoding", "gzip"), ("expect", "100-continue"),
    ("range", "bytes=-"), ("range", "bytes=0-0,2-3,5-"), ("range", "bytes=99999999-"),
    ("upgrade", "websocket"), ("connection", "upgrade"),
    ("x-forwarded-for", "127.0.0.1"), ("host", "edge.example"), ("upload-offset", "7"), ("upload-length", "\u0661"),
    ("upload-digest", "0" * 64), ("cookie", "a" * 9000), ("if-range", '"x"'), ("x" * 70_000, "1"),
]  # fmt: skip


@dataclass
class Draft:
    """A request that is going to be spoilt."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes = b""

    def bytes(self) -> bytes:
        """As it goes over the line."""
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in self.headers)]
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "replace") + self.body


def draft(chance: random.Random, key: Ed25519PrivateKey, lease: str) -> Draft:
    """A well formed request to any endpoint."""
    method, template = chance.choice(ENDPOINTS)
    path = template.format(chance.choice([lease, lease, chance.randbytes(16).hex(), chance.choice(CLIMBING)]))
    body = chance.randbytes(chance.randrange(200)) if method == "PUT" else b""
    digest = hashlib.sha256(body).hexdigest() if body else EMPTY
    headers = {"host": "localhost", **sign(key, "a", method, path, digest, now=WALL, nonce=chance.randbytes(16).hex())}
    if method == "PUT":
        headers |= {"content-length": str(len(body)), "upload-length": str(len(body)), "upload-digest": digest}
    return Draft(method, path, list(headers.items()), body)


def spoilt(chance: random.Random, made: Draft) -> bytes:
    """The same, changed in one to four places, of which one is signed."""
    number = chance.choice([n for n, (name, _) in enumerate(made.headers) if name in SIGNED])
    name, value = made.headers[number]
    others = [other for other in (*VALUES, value[:-1], value + "0", value.swapcase() + "=") if other != value]
    made.headers[number] = (name, chance.choice(others))
    for _ in range(chance.randrange(4)):
        kind = chance.randrange(6)
        if kind == 0:
            made.method = chance.choice(METHODS)
        elif kind == 1:
            made.path = chance.choice([made.path + "/", made.path + "?a=b", "/" + made.path, "*", "http://x/v1/lease"])
        elif kind == 2 and len(made.headers) > 1:
            made.headers.pop(chance.randrange(len(made.headers)))
        elif kind == 3:
            made.headers.insert(chance.randrange(len(made.headers) + 1), chance.choice(EXTRA))
        elif kind == 4:
            made.headers.append(chance.choice(made.headers))
        else:
            made.body = chance.randbytes(chance.randrange(3000))
    sent = bytearray(made.bytes())
    if chance.random() < 0.2:
        for _ in range(chance.randrange(1, 20)):
            sent[chance.randrange(len(sent))] = chance.randrange(256)
    return bytes(sent)


def noise(chance: random.Random) -> bytes:
    """No request at all."""
    return chance.choice([b"", b"GET ", b"\x16\x03\x01", b"PRI * HTTP/2.0\r\n\r\n", b"\r\n" * 50]) + chance.randbytes(
        chance.randrange(2000)
    )


def answers(address: tuple[str, int], requests: Iterable[bytes]) -> list[tuple[int, bytes]]:
    """Status of every answer, 0 where there is none, beside the request; many lines at a time."""

    async def answer(number: asyncio.Semaphore, sent: bytes) -> tuple[int, bytes]:
        async with number:
            told = b""
            reader, writer = await asyncio.open_connection(*address)
            with contextlib.suppress(ConnectionError):
                writer.write(sent)
                await writer.drain()
                told = await reader.read(1 << 16)
            writer.transport.abort()
            return (int(told.split(maxsplit=2)[1]) if told.startswith(b"HTTP/1.1 ") else 0), sent

    async def all_answers() -> list[tuple[int, bytes]]:
        number = asyncio.Semaphore(32)
        return await asyncio.gather(*(answer(number, sent) for sent in requests))

    return asyncio.run(all_answers())


@contextlib.contextmanager
def unencrypted(fleet: Fleet) -> Iterator[tuple[str, int]]:
    """The same application without TLS, which takes most of the time and is not what is tested; soon impatient."""
    line = listen("127.0.0.1", 0)
    with running(edge_app(fleet.service, {}, IMPATIENT), line, keep_alive_seconds=0.5):
        yield line.getsockname()


def check_harmless(fleet: Fleet, requests: Iterable[bytes], caplog: pytest.LogCaptureFixture) -> Counter[int]:
    """Send all: no success, no fault of the server, nothing changed, nothing logged as wrong. How often each status."""
    before = snapshot(fleet)
    with caplog.at_level(logging.ERROR), unencrypted(fleet) as address:
        told = answers(address, requests)
    assert [(status, sent) for status, sent in told if 200 <= status < 300 or status >= 500] == []
    assert snapshot(fleet) == before
    assert not caplog.records
    return Counter(status for status, _ in told)


@pytest.mark.parametrize("number", NUMBERS)
def test_requests_that_nobody_signed(make_fleet: MakeFleet, number: int, caplog: pytest.LogCaptureFixture) -> None:
    fleet, chance = make_fleet(), random.Random(number)
    lease = fleet.device("a").lease().lease

    def request() -> bytes:
        kind = chance.random()
        if kind < 0.1:
            return noise(chance)
        if kind < 0.4:
            return draft(chance, STRANGER, lease).bytes()
        return spoilt(chance, draft(chance, fleet.keys["a"], lease))

    statuses = check_harmless(fleet, [request() for _ in range(number)], caplog)
    assert statuses[401] > number / 4
    assert statuses[400] > number / 20


@pytest.mark.parametrize("number", NUMBERS)
def test_signed_requests_that_make_no_sense(
    make_fleet: MakeFleet, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    """From a device that is known, about another device's lease and about none; with headers of all kinds."""
    fleet, chance = make_fleet(), random.Random(number)
    lease = fleet.device("b").lease().lease
    fleet.device("a")

    def request() -> bytes:
        made = draft(chance, fleet.keys["a"], lease)
        for _ in range(chance.randrange(4)):
            name, value = chance.choice(EXTRA)
            if name.startswith("upload-"):
                made.headers = [entry for entry in made.headers if entry[0] != name]
            made.headers.append((name, value))
        return request() if made.path == "/v1/lease" else made.bytes()

    statuses = check_harmless(fleet, [request() for _ in range(number)], caplog)
    assert statuses[401] > number / 4


@pytest.mark.parametrize("number", NUMBERS)
def test_returns_with_changed_bytes(tmp_path: Path, number: int) -> None:
    """Each is refused as no clone, or read as tensors of the clone's kind; nothing else happens."""
    chance, path, seen = random.Random(number), tmp_path / "return", Counter[str]()
    for _ in range(number):
        body = bytearray(GOOD)
        for _ in range(chance.randrange(1, 6)):
            place = chance.randrange(len(body) if chance.random() < 0.5 else 250)
            kind = chance.randrange(4)
            if kind == 0:
                body[place % len(body)] = chance.randrange(256)
            elif kind == 1:
                del body[place % len(body) : place % len(body) + chance.randrange(1, 9)]
            elif kind == 2:
                body[place:place] = chance.randbytes(chance.randrange(1, 9))
            else:
                body[:8] = chance.choice([0, 1, 2**32, 2**63, len(body), len(body) - 8]).to_bytes(8, "little")
        path.write_bytes(body)
        try:
            state = read_return(path, START)
        except MalformedReturnError as error:
            seen[str(error).split()[0]] += 1
        else:
            seen["read"] += 1
            assert {name: (v.dtype, v.shape) for name, v in state.items()} == {
                name: (v.dtype, v.shape) for name, v in START.items()
            }
            assert all(bool(value.isfinite().all()) for value in state.values())
    assert seen["not"] > number / 4
    assert seen["read"] > 0
