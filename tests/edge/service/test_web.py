"""What only a wire can do: bodies without end, lines that stop, certificates, addresses."""

import contextlib
import dataclasses
import datetime as dt
import logging
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import httpx
import pytest
import torch

from stillhouse.edge.lesson import Arrival, State, Taught
from stillhouse.edge.service.authority import Authority
from stillhouse.edge.service.rates import Buckets, WebConfig
from stillhouse.edge.service.refusals import Conflict, Refusal, TooLarge, Wait
from stillhouse.edge.service.serving import listen, running, teaching
from stillhouse.edge.service.web import edge_app
from stillhouse.edge.signing import sign
from stillhouse.errors import RunError
from tests.edge.service.conftest import HTTPS, MakeFleet
from tests.edge.service.fleet import UNHURRIED, Averaging, Fleet, OverHttps

MEGABYTE = Averaging(start={"weight": torch.zeros(250_000)})


@pytest.fixture
def fleet(make_fleet: MakeFleet) -> Fleet:
    """A core of 1 MB behind HTTPS that is soon impatient."""
    web = dataclasses.replace(UNHURRIED, silence_seconds=0.3, grace_seconds=0.3, slowest=100_000.0)
    return make_fleet(HTTPS, lesson=MEGABYTE, web=web)


@pytest.fixture
def device(fleet: Fleet) -> OverHttps:
    """One device."""
    known = fleet.device("a")
    assert isinstance(known, OverHttps)
    return known


def answer(line: ssl.SSLSocket) -> int:
    """Status of what comes back; 0 where the line is closed without a word."""
    try:
        first = line.recv(65536)
    except ConnectionError:
        first = b""
    return int(first.split()[1]) if first else 0


def cut_off(line: ssl.SSLSocket, block: bytes, pause: float) -> bool:
    """Whether the other side ends the line before a thousand blocks have gone."""
    try:
        for _ in range(1000):
            line.sendall(block)
            time.sleep(pause)
    except OSError:
        return True
    return False


def stored(fleet: Fleet) -> int:
    return sum(path.stat().st_size for path in fleet.service.folder.spool.iterdir())


def test_a_lease_tells_the_terms_and_the_recipe(device: OverHttps) -> None:
    told = dict(device.lease().told)
    assert len(told.pop("lease")) == 32
    assert len(told.pop("digest")) == 64
    assert 1_000_000 < told.pop("size") < 1_001_000
    assert told == {
        "version": 0,
        "deadline": 600.0,
        "beat": 10.0,
        "late": "refuse",
        "largest_change": 0.0,
        "questions": "",
        "questions_size": 0,
        "recipe": {"method": {"name": "none"}},
    }


def test_a_body_that_is_too_large_is_refused_by_its_header(fleet: Fleet, device: OverHttps) -> None:  # fault 8
    lease = device.lease().lease
    head = device.head("PUT", f"/v1/lease/{lease}/result", {"content-length": "300000000"})
    with device.raw() as line:
        line.sendall(head)
        assert answer(line) == 413
    with pytest.raises(TooLarge):
        device.send(lease, bytes(2_000_000))
    assert stored(fleet) == 0


def test_a_body_that_is_longer_than_it_says(
    fleet: Fleet, device: OverHttps, caplog: pytest.LogCaptureFixture
) -> None:  # fault 8
    lease = device.lease().lease
    with caplog.at_level(logging.ERROR), device.raw() as line:
        line.sendall(device.head("PUT", f"/v1/lease/{lease}/result", {"content-length": "1000"}, bytes(1000)))
        assert cut_off(line, bytes(100_000), pause=0.0)
    assert stored(fleet) <= 1000
    assert not caplog.records


def test_a_body_without_a_length(fleet: Fleet, device: OverHttps) -> None:  # fault 8
    lease = device.lease().lease
    with device.raw() as line:
        line.sendall(device.head("PUT", f"/v1/lease/{lease}/result", {"transfer-encoding": "chunked"}))
        assert answer(line) == 411
    with device.raw() as line:
        line.sendall(device.head("POST", "/v1/lease", {"content-length": "5"}) + b"hello")
        assert answer(line) == 413


def test_a_body_that_stops_or_drips_is_cut_off(fleet: Fleet, device: OverHttps) -> None:  # fault 8
    lease = device.lease().lease
    path = f"/v1/lease/{lease}/result"
    with device.raw() as line:
        line.sendall(device.head("PUT", path, {"content-length": "1000000"}) + bytes(5000))
        assert answer(line) == 408
    assert device.offset(lease) == 5000
    with device.raw() as line:
        line.sendall(device.head("PUT", path, {"content-length": "900000", "upload-offset": "5000"}))
        assert cut_off(line, bytes(100), pause=0.05)
    assert stored(fleet) < 100_000
    assert device.state(lease).state == "out"


def impatient(fleet: Fleet, seconds: float) -> AbstractContextManager[str]:
    """The same core behind a line that waits so long for a head, and for a reader."""
    context = fleet.authority.server_context()
    app = edge_app(fleet.service, {}, UNHURRIED)
    return running(app, listen("127.0.0.1", 0), context, keep_alive_seconds=seconds)


def test_a_head_that_drips_is_cut_off(fleet: Fleet, device: OverHttps) -> None:  # fault 8
    lease = device.lease().lease
    with impatient(fleet, 0.3) as device.url:
        with device.raw() as line:  # of the first request of a line
            began = time.monotonic()
            assert cut_off(line, b"a", pause=0.02)
            assert time.monotonic() - began < 5
        with device.raw() as line:  # of a later one
            line.sendall(device.head("POST", f"/v1/lease/{lease}/beat", {"content-length": "0"}))
            assert answer(line) == 200
            assert cut_off(line, b"a", pause=0.02)
        with device.raw() as line:  # nothing at all
            assert answer(line) == 0
        with device.raw() as line:  # a body that nobody reads, of a request that was answered
            line.sendall(device.head("POST", "/nothing", {"content-length": "1000000"}))
            assert answer(line) == 404
            assert cut_off(line, b"a", pause=0.02)
    assert device.state(lease).state == "out"


def test_garbage_in_a_body_is_no_fault_of_ours(
    fleet: Fleet, device: OverHttps, caplog: pytest.LogCaptureFixture
) -> None:
    lease = device.lease().lease
    with caplog.at_level(logging.ERROR), device.raw() as line:
        line.sendall(device.head("PUT", f"/v1/lease/{lease}/result", {"transfer-encoding": "chunked"}) + b"zz\r\n")
        assert answer(line) == 0
        assert device.state(lease).state == "out"
    assert not caplog.records


def test_a_reader_that_stops_is_cut_off(fleet: Fleet, device: OverHttps) -> None:
    lease = device.lease().lease
    with impatient(fleet, 0.5) as device.url, device.raw(receive=4096) as line:
        path = f"/v1/lease/{lease}/model"
        line.sendall(b"".join(device.head("GET", path, {}) for _ in range(10)))
        assert cut_off(line, b"a", pause=0.02)


def test_parts_that_do_not_fit(device: OverHttps) -> None:
    lease = device.lease().lease
    body = changed_zeros(device.model(lease))
    path = f"/v1/lease/{lease}/result"
    with pytest.raises(Conflict) as conflict:
        device.send(lease, body, offset=10)
    assert conflict.value.told == {"offset": 0}
    assert device.ask("PUT", path, {}, body[:1000]).json() == {"state": "out"}
    assert device.offset(lease) == 1000
    device.edits = sign(device.key, device.node, "PUT", path, "0" * 64, now=device.clock.now())
    with pytest.raises(Conflict, match="not the one that was signed"):
        device.ask("PUT", path, {"upload-offset": "1000"}, body[1000:2000])
    assert device.offset(lease) == 1000
    wrong = {"upload-offset": "1000", "upload-length": str(len(body)), "upload-digest": "0" * 64}
    with pytest.raises(Conflict, match="begin anew"):
        device.ask("PUT", path, wrong, body[1000:])
    assert device.offset(lease) == 0
    for odd in ({"upload-offset": "-1"}, {"upload-offset": "1e3"}, {"upload-digest": "../../etc"}):
        with pytest.raises(Refusal, match="numbers"):
            device.ask("PUT", path, odd, body[:10])
    device.send(lease, body)
    assert device.state(lease).state == "spooled"


def changed_zeros(model: bytes) -> bytes:
    return model[:-4] + b"\x00\x00\x80\x3f"


def test_who_asks_too_often_waits(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(HTTPS, web=WebConfig(requests_per_second=0.01, burst=3))
    eager, calm = fleet.device("eager"), fleet.device("calm")
    lease = eager.lease().lease
    eager.beat(lease)
    eager.beat(lease)
    with pytest.raises(Wait) as wait:
        eager.beat(lease)
    assert 50 < wait.value.retry_after <= 101
    calm.lease()


def test_a_bucket_fills_again() -> None:
    now = [0.0]
    buckets = Buckets(rate=2.0, burst=3, now=lambda: now[0])
    for _ in range(3):
        assert buckets.wait("a") == 0.0
        buckets.take("a")
    assert buckets.wait("a") == pytest.approx(0.5)
    assert buckets.wait("b") == 0.0
    now[0] = 0.25
    assert buckets.wait("a") == pytest.approx(0.25)
    now[0] = 100.0
    assert buckets.wait("a") == 0.0


def test_beats_are_answered_while_the_core_is_taught(make_fleet: MakeFleet) -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Long(Averaging):
        def teach(self, core: State, arrivals: Sequence[Arrival], version: int) -> Taught:
            begun.set()
            assert go_on.wait(60)
            return super().teach(core, arrivals, version)

    fleet = make_fleet(HTTPS, lesson=Long())
    with teaching(fleet.service):
        first = fleet.visit("a", 1.0)
        assert begun.wait(60)
        lease = fleet.device("b").lease()
        assert (lease.version, fleet.device("b").beat(lease.lease)) == (0, 600.0)
        assert fleet.device("a").state(first).state == "spooled"
        go_on.set()
        deadline = time.monotonic() + 60
        while fleet.device("a").state(first).state != "applied" and time.monotonic() < deadline:
            time.sleep(0.02)
    assert fleet.service.core.version == 1


def test_a_disk_that_refuses_is_the_servers_fault(
    fleet: Fleet, device: OverHttps, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(node: str) -> None:
        raise RunError("edge.db: full")

    fleet.service.lease = refuse  # type: ignore[method-assign, assignment]
    with caplog.at_level(logging.CRITICAL, "stillhouse.edge"):
        response = device.http.post("/v1/lease", headers=device.signed("POST", "/v1/lease"))
    assert (response.status_code, response.headers["retry-after"]) == (503, "60")
    assert "edge.db" not in response.text


def test_other_authorities_and_no_encryption_are_refused(fleet: Fleet, device: OverHttps, tmp_path: Path) -> None:  # 15
    other = Authority.create(tmp_path / "other")
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        httpx.get(fleet.url, verify=ssl.create_default_context(cadata=other.pem), trust_env=False)
    with pytest.raises(httpx.TransportError):
        httpx.get(fleet.url.replace("https", "http"), trust_env=False)
    device.lease()


def test_an_expired_certificate_is_refused(fleet: Fleet) -> None:  # fault 15
    past = dt.datetime.now(dt.UTC) - dt.timedelta(days=20)
    fleet.authority.issue(["localhost"], past, days=10)
    app = edge_app(fleet.service, {})
    trust = ssl.create_default_context(cadata=fleet.authority.pem)
    with running(app, listen("127.0.0.1", 0), fleet.authority.server_context()) as url:
        wanted = url.replace("127.0.0.1", "localhost")
        with pytest.raises(httpx.ConnectError, match="expired"):
            httpx.get(wanted, verify=trust, trust_env=False)


def test_nothing_but_loopback(make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch) -> None:  # fault 21
    called: list[str] = []
    connect = socket.socket.connect

    def note(self: socket.socket, address: tuple[str, int]) -> None:
        called.append(address[0])
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", note)
    fleet = make_fleet(HTTPS)
    fleet.visit("a", 1.0)
    fleet.teach()
    assert fleet.service.core.version == 1
    assert set(called) <= {"127.0.0.1", "::1"}
    assert called


@contextlib.contextmanager
def counting(url: str) -> Iterator[tuple[str, Counter[str]]]:
    """A port that leads to the server, and how many bytes go through it, up and down."""
    target, counted, lines = httpx.URL(url), Counter[str](), ExitStack()

    def carry(source: socket.socket, sink: socket.socket, way: str) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(1 << 16):
                counted[way] += len(block)
                sink.sendall(block)
            sink.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                inner = lines.enter_context(listening.accept()[0])
                outer = lines.enter_context(socket.create_connection((target.host, target.port or 443)))
                for told in ((inner, outer, "up"), (outer, inner, "down")):
                    threading.Thread(target=carry, args=told, daemon=True).start()

    with listen("127.0.0.1", 0) as listening:
        threading.Thread(target=accept, daemon=True).start()
        yield f"https://localhost:{listening.getsockname()[1]}", counted
        listening.shutdown(socket.SHUT_RDWR)
    lines.close()


def test_counted_bytes_are_those_of_the_socket(fleet: Fleet, device: OverHttps) -> None:  # fault 22
    """The ledger's bytes of weights are 98 % of all that crosses or more: the rest is TLS, headers, small answers."""
    with counting(fleet.url) as (url, counted):
        other = OverHttps(url, fleet.authority.pem, fleet.clock, device.node, device.key)
        with contextlib.closing(other.http):
            lease = other.lease().lease
            model = other.model(lease)
            other.model(lease, offset=500_000)
            other.send(lease, changed_zeros(model))
            assert other.state(lease).state == "spooled"
        (told,) = fleet.service.status().devices
    assert (told.bytes_down, told.bytes_up) == (2 * len(model) - 500_000, len(model))
    assert told.bytes_down <= counted["down"] <= 1.02 * told.bytes_down
    assert told.bytes_up <= counted["up"] <= 1.02 * told.bytes_up


def test_a_port_that_is_taken(fleet: Fleet) -> None:
    with pytest.raises(RunError, match="choose another port"):
        listen("127.0.0.1", int(fleet.url.rpartition(":")[2]))


def test_what_nobody_offers(device: OverHttps) -> None:
    assert device.http.get("/").status_code == 404
    assert device.http.delete("/v1/lease").status_code == 405


def test_answers_do_not_wait_for_acknowledgements() -> None:
    """asyncio switches Nagle's algorithm off for lines that are told to be TCP; 40 ms per request otherwise."""
    with listen("127.0.0.1", 0) as line:
        assert line.proto == socket.IPPROTO_TCP
