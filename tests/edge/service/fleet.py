"""A small core, devices that reach it with and without a wire, and a lesson that anybody can check by hand."""

import hashlib
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx
import safetensors.torch
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from stillhouse.edge.invitation import Invitation
from stillhouse.edge.lesson import Arrival, Decision, Lesson, State, Taught
from stillhouse.edge.service.authority import Authority
from stillhouse.edge.service.clock import VirtualClock
from stillhouse.edge.service.door import Door
from stillhouse.edge.service.inprocess import InProcess
from stillhouse.edge.service.invites import invite
from stillhouse.edge.service.leases import LeaseConfig
from stillhouse.edge.service.rates import WebConfig
from stillhouse.edge.service.refusals import (
    Conflict,
    Gone,
    LengthRequired,
    Refusal,
    TooLarge,
    TooSlow,
    Unauthorized,
    Wait,
)
from stillhouse.edge.service.service import Service, unwatched
from stillhouse.edge.service.serving import listen, running
from stillhouse.edge.service.web import edge_app
from stillhouse.edge.service.writer import Passing
from stillhouse.edge.signing import EMPTY, sign

START = {
    "weight": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "norm.running_var": torch.ones(3),
    "norm.num_batches_tracked": torch.tensor(0),
}
TERMS = LeaseConfig(
    beat_seconds=10, deadline_floor=60, deadline_ceiling=600, late="refuse", allowed_fall=1e9, max_clones=200
)
UNHURRIED = WebConfig(requests_per_second=1e6, burst=10**6)
WALL = 1_700_000_000.0


class Averaging(Lesson):
    """The next core is the mean of core and returns; a weight above `most` is refused, and above `rude` is rude."""

    def __init__(self, most: float = 1e6, rude: float = 1e7, start: State | None = None) -> None:
        self.most, self.rude = most, rude
        self.begin = START if start is None else start
        self.seen: list[Arrival] = []

    def start(self) -> Taught:
        return Taught({name: value.clone() for name, value in self.begin.items()}, {"score": 0.0})

    def examine(self, core: State, arrival: Arrival) -> Decision:
        largest = max(float(value.abs().max()) for value in arrival.state.values())
        if largest > self.most:
            return Decision(accepted=False, reason="too large", hostile=largest > self.rude)
        return Decision(accepted=True)

    def teach(self, core: State, arrivals: Sequence[Arrival], version: int) -> Taught:
        self.seen += arrivals
        states = [core, *(arrival.state for arrival in arrivals)]
        noise = torch.randn(1, generator=torch.Generator().manual_seed(version)) * 1e-3
        taught = {
            name: (torch.stack([state[name].double() for state in states]).mean(0) + float(noise)).to(value.dtype)
            if value.is_floating_point()
            else value.clone()
            for name, value in core.items()
        }
        return Taught(
            taught,
            {"score": float(taught.get("weight", next(iter(taught.values()))).double().mean())},
            {"noise": float(noise), "nothing": float("nan")},
        )


class Device(Protocol):
    """What a device may ask, over whatever wire."""

    def lease(self) -> Any: ...
    def model(self, lease: str, offset: int = 0) -> bytes: ...
    def questions(self, lease: str, offset: int = 0) -> bytes: ...
    def beat(self, lease: str) -> float: ...
    def offset(self, lease: str) -> int: ...
    def send(self, lease: str, body: bytes, offset: int = 0, cut: int | None = None) -> None: ...
    def state(self, lease: str) -> Any: ...


@dataclass(frozen=True)
class Answer:
    """JSON by attribute."""

    told: Mapping[str, Any]

    def __getattr__(self, name: str) -> Any:
        return self.told[name]


REFUSALS = {kind.status: kind for kind in (Unauthorized, TooSlow, Conflict, Gone, LengthRequired, TooLarge)}


@dataclass
class OverHttps:
    """The same as `InProcess` through a socket; `edits` change the headers of the next request."""

    url: str
    ca: str
    clock: VirtualClock
    node: str
    key: Ed25519PrivateKey
    edits: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.context = ssl.create_default_context(cadata=self.ca)
        self.http = httpx.Client(base_url=self.url, verify=self.context, trust_env=False, timeout=60)

    def lease(self) -> Answer:
        return Answer(self.ask("POST", "/v1/lease").json())

    def model(self, lease: str, offset: int = 0) -> bytes:
        wanted = {"range": f"bytes={offset}-"} if offset else {}
        return self.ask("GET", f"/v1/lease/{lease}/model", wanted).content

    def questions(self, lease: str, offset: int = 0) -> bytes:
        wanted = {"range": f"bytes={offset}-"} if offset else {}
        return self.ask("GET", f"/v1/lease/{lease}/questions", wanted).content

    def beat(self, lease: str) -> float:
        return float(self.ask("POST", f"/v1/lease/{lease}/beat").json()["deadline"])

    def offset(self, lease: str) -> int:
        return int(self.ask("HEAD", f"/v1/lease/{lease}/result").headers["upload-offset"])

    def state(self, lease: str) -> Answer:
        return Answer(self.ask("GET", f"/v1/lease/{lease}").json())

    def send(self, lease: str, body: bytes, offset: int = 0, cut: int | None = None) -> None:
        path, rest = f"/v1/lease/{lease}/result", body[offset:]
        headers = {
            "upload-offset": str(offset),
            "upload-length": str(len(body)),
            "upload-digest": hashlib.sha256(body).hexdigest(),
        }
        if cut is None:
            self.ask("PUT", path, headers, rest)
        else:
            self.break_off(path, headers, rest, cut)

    def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> httpx.Response:
        signed = self.signed(method, path, body)
        response = self.http.request(method, path, headers={**signed, **(headers or {})}, content=body or None)
        if response.is_success:
            return response
        if response.status_code == 429:
            raise Wait(response.json()["error"], float(response.headers["retry-after"]))
        is_json = response.content and response.headers["content-type"] == "application/json"
        told = response.json() if is_json else {}
        if "upload-offset" in response.headers:
            told["offset"] = int(response.headers["upload-offset"])
        raise REFUSALS.get(response.status_code, Refusal)(told.pop("error", ""), **told)

    def signed(self, method: str, path: str, body: bytes = b"") -> dict[str, str]:
        digest = hashlib.sha256(body).hexdigest() if body else EMPTY
        headers = {**sign(self.key, self.node, method, path, digest, now=self.clock.now()), **self.edits}
        self.edits = {}
        return headers

    def break_off(self, path: str, headers: Mapping[str, str], body: bytes, cut: int) -> None:
        """Send so many bytes of a body, then cut the line."""
        with self.raw() as line:
            line.sendall(self.head("PUT", path, {**headers, "content-length": str(len(body))}, body) + body[:cut])

    def head(self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
        """The first lines of a request."""
        told = {"host": "localhost", **self.signed(method, path, body), **headers}
        return (
            f"{method} {path} HTTP/1.1\r\n".encode()
            + "".join(f"{k}: {v}\r\n" for k, v in told.items()).encode()
            + b"\r\n"
        )

    @contextmanager
    def raw(self, receive: int = 0) -> Iterator[ssl.SSLSocket]:
        """A line on which anything may be said; `receive` bytes that are not read may wait at this end, if given."""
        url = httpx.URL(self.url)
        plain = socket.socket()
        if receive:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        plain.settimeout(30)
        plain.connect((url.host, url.port or 443))
        with self.context.wrap_socket(plain, server_hostname="localhost") as line:
            yield line


@dataclass
class Fleet:
    """A service with its devices; `restart` opens the same folder again, as after a crash."""

    path: Path
    wire: str
    lesson: Lesson = field(default_factory=Averaging)
    terms: LeaseConfig = TERMS
    web: WebConfig = UNHURRIED
    passing: Passing = unwatched
    database: str = ""
    files: str = ""
    clock: VirtualClock = field(default_factory=lambda: VirtualClock(WALL))
    invitations: dict[str, Invitation] = field(default_factory=dict)
    keys: dict[str, Ed25519PrivateKey] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.authority = Authority(self.path / "authority")
        if self.wire == "https":
            self.authority = Authority.create(self.path / "authority")
            self.authority.issue(["localhost", "127.0.0.1"])
        self._open()

    def _open(self) -> None:
        self.stack = ExitStack()
        self.service = Service(self.path, self.lesson, self.terms, self.clock, self.database, self.passing, self.files)
        self.stack.callback(self.service.close)
        self.door = Door(self.service.database, self.clock)
        if self.wire == "https":
            app = edge_app(self.service, {"method": {"name": "none"}}, self.web)
            line = listen("127.0.0.1", 0)
            self.url = self.stack.enter_context(running(app, line, self.authority.server_context()))
            self.url = self.url.replace("127.0.0.1", "localhost")

    def device(self, name: str) -> Device:
        """A device that was invited; the same one whenever it is asked for."""
        if name not in self.invitations:
            ca = self.authority.pem if self.wire == "https" else ""
            self.invitations[name] = invite(self.service.database, name, "", ca, self.clock.now())
            key = load_pem_private_key(self.invitations[name].private_key.encode(), None)
            assert isinstance(key, Ed25519PrivateKey)
            self.keys[name] = key
        return self.stranger(name, self.keys[name])

    def stranger(self, name: str, key: Ed25519PrivateKey) -> Device:
        """Somebody who says to be `name`."""
        if self.wire == "https":
            device = OverHttps(self.url, self.authority.pem, self.clock, name, key)
            self.stack.callback(device.http.close)
            return device
        return InProcess(self.service, self.door, name, key)

    def close(self) -> None:
        """Let go of everything."""
        self.stack.close()

    def restart(self) -> None:
        """Open the folder again."""
        self.close()
        self._open()

    def visit(self, name: str, change: float) -> str:
        """Fetch a clone, add `change` to its weights, return it; the lease."""
        device = self.device(name)
        lease = device.lease().lease
        device.send(lease, changed(device.model(lease), change))
        return str(lease)

    def teach(self) -> dict[str, str]:
        """Let everything teach that waits; the reasons of what did not."""
        refused: dict[str, str] = {}
        while (outcome := self.service.apply_next()) is not None:
            refused |= outcome.refused
        return refused


def changed(model: bytes, change: float) -> bytes:
    """What a device returns that learnt to add `change`."""
    state = safetensors.torch.load(model)
    state["weight"] = state["weight"] + change
    state["norm.num_batches_tracked"] = state["norm.num_batches_tracked"] + 1
    return safetensors.torch.save(state)
