"""A server that speaks the wire and nothing else, over loopback HTTPS, with every fault that a test asks for."""

import datetime as dt
import hashlib
import ipaddress
import json
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from stillhouse.edge.invitation import Invitation
from stillhouse.edge.signing import BODY, NONCE, verify

NODE = "camera-1"
TEXT = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()


@dataclass
class Lent:
    """A lease as the server sees it."""

    state: str = "out"
    reason: str = ""
    received: bytearray = field(default_factory=bytearray)
    beats: int = 0


@dataclass
class Core:
    """What the server lends, what came back, and what goes wrong."""

    model: bytes
    recipe: dict[str, Any]
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    leases: dict[str, Lent] = field(default_factory=dict)
    returned: list[bytes] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """Every request that was let in, as `METHOD path`."""
    lent: dict[str, Any] = field(default_factory=dict)
    """Laid over what is said of a lease."""
    beat: float = 0.05
    cut_model: list[float] = field(default_factory=list)
    """Shares of the model after which the line is cut, one per request."""
    cut_result: list[float] = field(default_factory=list)
    """The same of a return."""
    drop: int = 0
    """Requests that are not answered at all."""
    waits: int = 0
    """Times that a node that asks for a lease is sent away."""
    last_beat: int = 10**9
    """Beats after which a lease is over."""
    late: bool = False
    """Whether its return is taken all the same."""
    outcome: tuple[str, str] = ("applied", "")
    """What becomes of a return."""
    questions: bytes = b""
    """That may be answered instead of sending weights."""
    surplus: bytes = b""
    """Sent behind the model."""
    nonces: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    ranges: list[int] = field(default_factory=list)
    """Where downloads began."""
    offsets: list[int] = field(default_factory=list)
    """Where uploads began."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"
    timeout = 20

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (its name)
        """Say nothing."""

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            self.close_connection = True  # a test hung up

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def _serve(self) -> None:
        core = self.server.core
        headers = {key.lower(): value for key, value in self.headers.items()}
        with core.lock:
            if core.drop:
                core.drop -= 1
                self._cut()
                return
            fresh = headers.get(NONCE, "") not in core.nonces
            core.nonces.add(headers.get(NONCE, ""))
            if not (fresh and verify(core.key.public_key(), self.command, self.path, headers)):
                self._answer(401, {"reason": "not signed by a node"})
                return
            core.asked.append(f"{self.command} {self.path}")
            self._route(core, headers)

    def _route(self, core: Core, headers: dict[str, str]) -> None:
        if (self.command, self.path) == ("POST", "/v1/lease"):
            self._lend(core)
            return
        match = re.fullmatch(r"/v1/lease/([0-9a-z-]+)(/model|/questions|/beat|/result)?", self.path)
        lent = core.leases.get(match[1]) if match else None
        if match is None or lent is None:
            self._answer(404, {"reason": "no such lease"})
        elif match[2] is None:
            self._answer(200, {"state": lent.state, "reason": lent.reason})
        elif match[2] == "/model":
            self._file(core, core.model, headers)
        elif match[2] == "/questions":
            self._file(core, core.questions, headers)
        elif match[2] == "/beat":
            lent.beats += 1
            if lent.beats > core.last_beat and lent.state == "out":
                lent.state, lent.reason = "lost", "deadline"
            if lent.state == "out":
                self._answer(200, {"deadline": 60.0})
            else:
                self._answer(410, {"reason": lent.reason or lent.state, "state": lent.state, "late": core.late})
        elif self.command == "HEAD":
            self._answer(200, {}, {"upload-offset": str(len(lent.received))})
        else:
            self._result(core, lent, headers)

    def _lend(self, core: Core) -> None:
        if core.waits:
            core.waits -= 1
            self._answer(429, {"reason": "too many clones are out"}, {"retry-after": "7"})
            return
        for lent in core.leases.values():
            if lent.state == "out":
                lent.state, lent.reason = "lost", "joined again"
        name = f"lease-{len(core.leases)}"
        core.leases[name] = Lent()
        table = {
            "lease": name,
            "version": 3,
            "digest": hashlib.sha256(core.model).hexdigest(),
            "size": len(core.model),
            "deadline": 60.0,
            "beat": core.beat,
            "late": "accept" if core.late else "refuse",
            "recipe": core.recipe,
        }
        if core.questions:
            table |= {"questions": hashlib.sha256(core.questions).hexdigest(), "questions_size": len(core.questions)}
        self._answer(201, table | core.lent)

    def _file(self, core: Core, content: bytes, headers: dict[str, str]) -> None:
        match = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
        begin = int(match[1]) if match else 0
        core.ranges.append(begin)
        body = (content + core.surplus)[begin:]
        self.send_response(206 if match else 200)
        self.send_header("content-length", str(len(body)))
        if match:
            self.send_header("content-range", f"bytes {begin}-{begin + len(body) - 1}/{len(content)}")
        self.end_headers()
        if core.cut_model:
            self.wfile.write(body[: max(0, round(core.cut_model.pop(0) * len(content)) - begin)])
            self._cut()
        else:
            self.wfile.write(body)

    def _result(self, core: Core, lent: Lent, headers: dict[str, str]) -> None:
        if lent.state != "out" and not (lent.state == "lost" and core.late):
            self._answer(410, {"reason": lent.reason, "late": False})
            return
        offset, size = int(headers["upload-offset"]), int(headers["content-length"])
        core.offsets.append(offset)
        assert offset == len(lent.received)
        if core.cut_result:
            wanted = round(core.cut_result.pop(0) * len(core.model)) - offset
            lent.received += self.rfile.read(max(0, min(size, wanted)))
            self._cut()
            return
        part = self.rfile.read(size)
        assert hashlib.sha256(part).hexdigest() == headers[BODY]
        lent.received += part
        if "upload-digest" in headers:
            assert int(headers["upload-length"]) == len(lent.received)
            assert hashlib.sha256(lent.received).hexdigest() == headers["upload-digest"]
            lent.state, lent.reason = core.outcome
            core.returned.append(bytes(lent.received))
        self._answer(202, {"state": "spooled"})

    def _answer(self, status: int, table: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        content = json.dumps(table).encode()
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    core: Core

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A test hung up."""


@contextmanager
def serving(core: Core, folder: Path) -> Iterator[Invitation]:
    """Serve on a free port; gives the invite of the one node that is let in."""
    ca, certificate, key = make_certificates()
    for name, content in (("server.pem", certificate), ("server.key", key)):
        (folder / name).write_bytes(content)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    server = _Server(("127.0.0.1", 0), _Handler)
    server.core = core
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        secret = core.key.private_bytes(*TEXT).decode()
        yield Invitation(f"https://127.0.0.1:{server.server_address[1]}", ca.decode(), NODE, secret)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def make_certificates() -> tuple[bytes, bytes, bytes]:
    """An authority's certificate, and certificate and key of a server on this machine that it vouches for."""
    day, now = dt.timedelta(days=1), dt.datetime.now(dt.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("authority", "server")]
    made = []
    for place, is_ca in ((0, True), (1, False)):
        builder = (
            x509.CertificateBuilder()
            .subject_name(names[place])
            .issuer_name(names[0])
            .public_key(keys[place].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + day)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        )
        if not is_ca:
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        made.append(builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return made[0], made[1], keys[1].private_bytes(*TEXT)
