"""The real thing: a server process, killed with clones out and half a return received, and at every step. 11, 12."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import httpx
import pytest
import safetensors.torch
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

import stillhouse
from stillhouse.edge.service.authority import Authority
from stillhouse.edge.service.clock import VirtualClock
from stillhouse.edge.service.core import create_core, read_core
from stillhouse.edge.service.database import Database
from stillhouse.edge.service.folder import StateFolder
from stillhouse.edge.service.invites import invite
from tests.edge.service.conftest import POSTGRESQL, MakeFleet
from tests.edge.service.fleet import Averaging, OverHttps, changed
from tests.edge.service.test_commits import STEPS
from tests.edge.service.test_core import TINY

ROOT = Path(__file__).parents[3]


class Now(VirtualClock):
    """The time of this machine, as the server in the other process sees it."""

    def now(self) -> float:
        return time.time()


def free_port() -> int:
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        return int(line.getsockname()[1])


@contextmanager
def server(state: Path, module: str = "server", *words: str) -> Iterator[subprocess.Popen[str]]:
    """A server that answers; killed at the end if it still lives."""
    path = os.pathsep.join([str(Path(stillhouse.__file__).parents[1]), str(ROOT)])
    process = subprocess.Popen(
        [sys.executable, "-m", f"tests.edge.service.{module}", str(state), *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert "core version" in process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def grown(model: bytes, factor: float) -> bytes:
    state = safetensors.torch.load(model)
    return safetensors.torch.save({name: (value * factor).to(value.dtype) for name, value in state.items()})


@pytest.mark.slow
def test_kill_9_with_clones_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path / "cache"))
    stillhouse.train("simclr", data="digits", out=tmp_path / "run", settings=TINY)
    state = tmp_path / "state"
    settings = {"service.port": free_port(), "service.page_port": 0, "leases.allowed_fall": 1e9}
    create_core(state, tmp_path / "run", "digits", settings, dict)
    authority = Authority.create(StateFolder(state).authority)
    authority.issue(["localhost"])
    database = Database(StateFolder(state).database_url)
    invitation = invite(database, "a", read_core(state).service.url, authority.pem, time.time())
    database.close()
    key = load_pem_private_key(invitation.private_key.encode(), None)
    assert isinstance(key, Ed25519PrivateKey)
    device = OverHttps(invitation.url, authority.pem, Now(), "a", key)
    with server(state) as process:
        first = device.lease().lease
        device.send(first, grown(device.model(first), 1.01))
        wait_until_applied(device, first)
        second = device.lease()
        assert second.version == 1
        body = grown(device.model(second.lease), 1.01)
        device.send(second.lease, body, cut=len(body) // 2)
        process.kill()
        process.wait()
    with closing(device.http), server(state) as process:
        came = device.offset(second.lease)
        assert device.beat(second.lease) > 0
        device.send(second.lease, body, offset=came)
        wait_until_applied(device, second.lease)
        assert device.lease().version == 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM


def wait_until_applied(device: OverHttps, lease: str) -> None:
    deadline = time.monotonic() + 60
    while (known := device.state(lease)).state == "spooled" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert (known.state, known.reason) == ("applied", "")


def visited(device: OverHttps, change: float, begin: Callable[[], object]) -> None:
    """One visit whose return teaches; whenever the server is gone, `begin` lets there be a new one."""

    def go(ask: Callable[[], object]) -> object:
        try:
            return ask()
        except httpx.TransportError:
            begin()
            return ask()

    lease = str(getattr(go(device.lease), "lease", ""))
    body = changed(device.model(lease), change)
    go(lambda: device.send(lease, body))
    deadline = time.monotonic() + 60
    while getattr(go(lambda: device.state(lease)), "state", "") not in ("applied", "refused"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["sqlite", POSTGRESQL])
def test_kill_9_at_every_step(make_fleet: MakeFleet, tmp_path: Path, place: str) -> None:  # fault 12
    """Three visits of which one is refused; a server that was killed on the way ends with the same core."""

    def life(name: str, step: str, nth: int) -> tuple[int, str]:
        fleet = make_fleet("https" if place == "sqlite" else place, name)
        state, port, url = fleet.path, str(free_port()), fleet.database
        if place == "postgresql":
            Authority.create(StateFolder(state).authority).issue(["localhost"])
        invitation = invite(fleet.service.database, "a", "", "", time.time())
        fleet.close()
        key = load_pem_private_key(invitation.private_key.encode(), None)
        assert isinstance(key, Ed25519PrivateKey)
        device = OverHttps(f"https://localhost:{port}", Authority(state / "authority").pem, Now(), "a", key)
        with ExitStack() as servers, closing(device.http):
            first = servers.enter_context(server(state, "dying", port, step, str(nth), url))

            def begin() -> None:
                assert first.wait(60) == -signal.SIGKILL
                servers.enter_context(server(state, "dying", port, "", "0", url))

            for change in (1.0, float("nan"), 2.0):
                visited(device, change, begin)
            if step:
                assert first.wait(60) == -signal.SIGKILL
            try:
                last = device.lease()
            except httpx.TransportError:
                begin()
                last = device.lease()
            return last.version, last.digest

    wanted = life("quiet", "", 0)
    assert wanted[0] == 2
    for step in STEPS:
        assert (step, life(step, step, 1)) == (step, wanted)


@pytest.mark.slow
def test_bodies_without_end_leave_memory_flat(make_fleet: MakeFleet) -> None:  # fault 8
    """300 MB for a core of 4 MB, said, not said, and dripping: the peak of memory rises by less than twice the core."""
    fleet, port = make_fleet("https", lesson=Averaging(start={"weight": torch.zeros(1_000_000)})), str(free_port())
    invitation = invite(fleet.service.database, "a", "", "", time.time())
    fleet.close()
    key = load_pem_private_key(invitation.private_key.encode(), None)
    assert isinstance(key, Ed25519PrivateKey)
    device = OverHttps(f"https://localhost:{port}", fleet.authority.pem, Now(), "a", key)
    with server(fleet.path, "dying", port, "", "0") as process, closing(device.http):
        lease = device.lease().lease
        device.send(lease, device.model(lease))
        lease = device.lease().lease
        path = f"/v1/lease/{lease}/result"

        def flood() -> None:
            for headers in ({"content-length": "300000000"}, {"content-length": "4000000"}):
                with device.raw() as line, contextlib.suppress(OSError):
                    line.sendall(device.head("PUT", path, headers))
                    for _ in range(3000):
                        line.sendall(bytes(100_000))
            with device.raw() as line, contextlib.suppress(OSError):
                line.sendall(device.head("PUT", path, {"content-length": "1000000"}))
                for _ in range(1000):
                    line.sendall(bytes(100))

        for _ in range(3):  # code is loaded and threads are begun
            flood()
        before = peak(process.pid)
        flood()
        assert peak(process.pid) - before < 8_000_000
        assert device.state(lease).state == "out"


def peak(process: int) -> int:
    """Most bytes of memory that a process has had."""
    (line,) = [line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
