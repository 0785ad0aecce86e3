"""What a visit costs beside its training: dispatch and return over HTTPS on this machine, and the server's memory.

    python benchmarks/edge_wire.py [--out FILE]

A server in a process of its own, with TLS, signatures, synced files and the checks of a return; a device asks for a
clone, fetches it and returns it changed, until it is spooled. Seconds are those of a clock on the wall. Then 100 MB are
sent under a lease whose clone is as large, and the peak of the server's memory is compared with what it was before.
"""

import hashlib
import ssl
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import httpx
import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from stillhouse.edge.invitation import Invitation
from stillhouse.edge.lesson import Arrival, Decision, Lesson, State, Taught
from stillhouse.edge.service.authority import Authority
from stillhouse.edge.service.invites import invite
from stillhouse.edge.service.leases import LeaseConfig
from stillhouse.edge.service.rates import WebConfig
from stillhouse.edge.service.service import Service
from stillhouse.edge.service.serving import listen, running
from stillhouse.edge.service.web import edge_app
from stillhouse.edge.signing import EMPTY, sign
from timing import Bar, Row, Table, parser, prepare, report

MEGABYTE = 10**6
SIZES = {1: Bar(0.05), 50: Bar(1.0)}
LARGE = 100
MEMORY = Bar(2.0)
BLOCK = 1 << 20


class Nothing(Lesson):
    """Zeros, that stay as they are."""

    def __init__(self, megabytes: int) -> None:
        self._weights = {"weights": torch.zeros(megabytes * MEGABYTE // 4)}

    def start(self) -> Taught:
        return Taught(self._weights)

    def examine(self, core: State, arrival: Arrival) -> Decision:
        return Decision(accepted=False, reason="nothing is taught here")

    def teach(self, core: State, arrivals: Sequence[Arrival], version: int) -> Taught:
        return Taught(core)


def serve(folder: Path, megabytes: int, line: Connection) -> None:
    """Serve until told to stop, in a process of its own."""
    torch.set_num_threads(1)
    authority = Authority.create(folder / "authority")
    authority.issue(["localhost"])
    config = LeaseConfig(waiting_per_node=10**6, max_clones=10**6)
    service = Service(folder, Nothing(megabytes), config)
    invitation = invite(service.database, "device", "", authority.pem, time.time())
    app = edge_app(service, {}, WebConfig(requests_per_second=1e6, burst=10**6))
    with running(app, listen("127.0.0.1", 0), authority.server_context()) as url:
        line.send(replace(invitation, url=url.replace("127.0.0.1", "localhost")))
        while line.recv():
            service.apply_next()
            line.send(True)
    service.close()


class Device:
    """A device that speaks the wire and nothing else.

    Args:
        invitation: whom to ask and who asks.
    """

    def __init__(self, invitation: Invitation) -> None:
        trust = ssl.create_default_context(cadata=invitation.ca)
        self._http = httpx.Client(base_url=invitation.url, verify=trust, trust_env=False)
        self.node, self.key = invitation.node, read_key(invitation)

    def close(self) -> None:
        """Hang up."""
        self._http.close()

    def fetch(self) -> tuple[str, bytes]:
        """A lease and its clone."""
        lease = self.ask("POST", "/v1/lease").raise_for_status().json()["lease"]
        return lease, self.ask("GET", f"/v1/lease/{lease}/model").raise_for_status().content

    def send(self, lease: str, body: bytes) -> None:
        """Return the clone, until it is spooled."""
        told, blocks = announced(body), (body[begin : begin + BLOCK] for begin in range(0, len(body), BLOCK))
        self.ask("PUT", f"/v1/lease/{lease}/result", told["upload-digest"], told, blocks).raise_for_status()

    def ask(
        self,
        method: str,
        path: str,
        digest: str = EMPTY,
        headers: dict[str, str] | None = None,
        content: Iterator[bytes] | None = None,
    ) -> httpx.Response:
        """The answer to a signed request, whatever it is; headers that are given replace signed ones."""
        signed = sign(self.key, self.node, method, path, digest, now=time.time())
        return self._http.request(method, path, headers={**signed, **(headers or {})}, content=content)


def read_key(invitation: Invitation) -> Ed25519PrivateKey:
    """The device's key."""
    key = load_pem_private_key(invitation.private_key.encode(), None)
    assert isinstance(key, Ed25519PrivateKey)
    return key


def announced(body: bytes) -> dict[str, str]:
    """Headers that say what a return in one part is."""
    size, digest = str(len(body)), hashlib.sha256(body).hexdigest()
    return {"upload-length": size, "upload-digest": digest, "content-length": size}


@contextmanager
def beside(megabytes: int) -> Iterator[tuple[Device, Connection, int]]:
    """A device, a line to its server, and the server's process id."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        process = context.Process(target=serve, args=(Path(folder) / "state", megabytes, theirs))
        process.start()
        assert process.pid is not None
        device = Device(ours.recv())
        yield device, ours, process.pid
        device.close()
        ours.send(False)
        process.join()


def changed(model: bytes, number: int) -> bytes:
    """The same tensors with another first value."""
    body = bytearray(model)
    body[-4:] = np.float32(number + 1).tobytes()
    return bytes(body)


def visit(megabytes: int, rounds: int, bar: Bar) -> Row:
    """Median seconds from asking for a clone until its return is spooled."""
    times = []
    with beside(megabytes) as (device, line, _):
        for number in range(rounds + 1):
            began = time.perf_counter()
            lease, model = device.fetch()
            fetched = time.perf_counter()
            body = changed(model, number)
            training = time.perf_counter() - fetched  # what stands for it does not count
            device.send(lease, body)
            times.append(time.perf_counter() - began - training)
            line.send(True)  # the return is checked and refused between the visits
            line.recv()
    seconds = statistics.median(times[1:])
    return {"clone, MB": megabytes, "seconds": seconds, "slowest": max(times[1:]), "bar": bar.judge(seconds)}


def memory(megabytes: int) -> Row:
    """Rise of the server's peak memory during an upload, in models."""
    with beside(megabytes) as (device, _, process):
        lease, model = device.fetch()
        body = changed(model, 0)
        Path(f"/proc/{process}/clear_refs").write_text("5")  # the peak begins anew
        before = _peak(process)
        device.send(lease, body)
        rise = (_peak(process) - before) / (megabytes * MEGABYTE)
    return {"upload, MB": megabytes, "rise, models": rise, "bar": MEMORY.judge(rise)}


def _peak(process: int) -> int:
    """Largest resident memory of a process in bytes."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__ or "", 9).parse_args()
    prepare()
    visits = [visit(size, arguments.rounds, bar) for size, bar in SIZES.items()]
    tables = [Table("dispatch and return without training, HTTPS on loopback, seconds on the wall", visits)]
    if Path("/proc/self/clear_refs").exists():
        tables.append(Table("memory of the server while a return comes", [memory(LARGE)]))
    report(tables, torch.device("cpu"), arguments.out)


if __name__ == "__main__":
    main()
