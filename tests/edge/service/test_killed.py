"""The real thing: a server process, killed with clones out and half a return received. Fault 11."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import safetensors.torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

import stillhouse
from stillhouse.edge.service.authority import Authority
from stillhouse.edge.service.clock import VirtualClock
from stillhouse.edge.service.core import create_core, read_core
from stillhouse.edge.service.database import Database
from stillhouse.edge.service.folder import StateFolder
from stillhouse.edge.service.invites import invite
from tests.edge.service.fleet import OverHttps
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
def server(state: Path) -> Iterator[subprocess.Popen[str]]:
    """A server that answers; killed at the end if it still lives."""
    path = os.pathsep.join([str(Path(stillhouse.__file__).parents[1]), str(ROOT)])
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.edge.service.server", str(state)],
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
