"""What a person is shown."""

import dataclasses

import httpx
import pytest
import safetensors.torch
import torch

from stillhouse.cli.fleet import status_tables
from stillhouse.edge.service.page import page_app, render
from stillhouse.edge.service.serving import listen, running
from stillhouse.edge.service.status import Status
from stillhouse.edge.service.words import ago, counted, numbers, size, span
from tests.edge.service.conftest import POSTGRESQL, MakeFleet


@pytest.fixture(params=["in process", POSTGRESQL])
def status(make_fleet: MakeFleet, request: pytest.FixtureRequest) -> Status:
    """Of a service with something of everything."""
    fleet = make_fleet(request.param)
    for change in (1.0, 2.0):
        fleet.visit("a", change)
    fleet.teach()
    fleet.visit("b", float("nan"))
    fleet.teach()
    fleet.device("c").lease()
    fleet.visit("a", 5.0)
    return fleet.service.status()


def test_the_status_tells_what_happened(status: Status) -> None:
    devices = {device.name: device for device in status.devices}
    assert (devices["a"].applied, devices["b"].refused, devices["b"].strikes, devices["c"].doing) == (2, 1, 1, "out")
    assert (status.version, status.waiting, status.score_name) == (2, 1, "score")
    assert [version.by for version in status.versions] == [(), ("a",), ("a",)]
    assert status.versions[2].measures["nothing"] is None
    assert {visit.staleness for visit in status.visits if visit.state == "applied"} == {0, 1}


def test_the_page_is_whole_and_escapes(status: Status) -> None:
    page = render(status)
    assert "Core version 2, score " in page
    assert "3 devices; 1 return waiting to teach" in page
    assert "<polyline" in page
    assert '<td class="ill">refused</td><td class="long">weight: holds values that are not finite' in page
    assert "http://" not in page.replace("http-equiv", "")
    assert "https://" not in page
    assert "<script" not in page


def test_names_and_reasons_are_no_markup(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    device = fleet.device("a")
    device.send(device.lease().lease, safetensors.torch.save({"<script>": torch.zeros(1)}))
    fleet.teach()
    page = render(fleet.service.status())
    assert "&lt;script&gt;" in page
    assert "<script>" not in page


def test_the_page_answers_to_names_of_this_machine_alone(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    fleet.visit("a", 1.0)
    with running(page_app(fleet.service), listen("127.0.0.1", 0)) as url:
        here = httpx.get(url, trust_env=False)
        rebound = httpx.get(url, headers={"host": "edge.example"}, trust_env=False)
    assert (here.status_code, "Core version 0" in here.text) == (200, True)
    assert rebound.status_code == 400


def test_the_tables_of_a_narrow_terminal(
    status: Status, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    busy = dataclasses.replace(status.devices[0], name="camera-12", last_seen=status.now - 7100, mean_seconds=7100,
                               applied=1234, bytes_down=123_456_789, bytes_up=123_456_789)  # fmt: skip
    status_tables(dataclasses.replace(status, devices=(busy, *status.devices[1:])))
    told = capsys.readouterr().out
    assert "core version 2 (" in told
    assert "1 return waiting to teach" in told
    first, *rows = [line.split() for line in told.splitlines() if line.startswith(("device", "camera-12", "b ", "c "))]
    assert first == ["device", "state", "unseen", "visit", "applied", "refused", "lost", "strikes", "bytes"]
    assert rows[0] == ["camera-12", "spooled", "118", "min", "118", "min", "1234", "0", "0", "0", "247", "MB"]
    assert [row[:2] for row in rows[1:3]] == [["b", "refused"], ["c", "out"]]
    assert "weight: holds values that are not" in told


def test_words() -> None:
    assert [size(count) for count in (0, 999, 1500, 2.5e6, 7e15)] == ["0 B", "999 B", "1.5 kB", "2.5 MB", "7e+03 TB"]
    assert [span(seconds) for seconds in (0, 100, 130, 7200, 200_000, -300)] == [
        "0 s", "100 s", "2 min", "2 h", "2 d", "-5 min",
    ]  # fmt: skip
    assert [counted(number, "device") for number in (0, 1, 2)] == ["0 devices", "1 device", "2 devices"]
    assert ago(-3.0) == "0 s ago"
    assert numbers({"a": 0.12345, "b": None}) == "a 0.1235, b -"
