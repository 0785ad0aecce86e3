"""Questions go out, answers come back, and a core learns from a device that sends no weights; over either wire."""

import hashlib
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from stillhouse.edge.device.client import Client
from stillhouse.edge.device.device import Device
from stillhouse.edge.learning.opening import open_teaching
from stillhouse.edge.learning.settings import DistillingConfig, EdgeConfig
from stillhouse.edge.learning.teaching import Teaching
from stillhouse.edge.questions import answer
from stillhouse.edge.service.authority import Authority
from stillhouse.edge.service.core import Beginning
from stillhouse.edge.service.folder import StateFolder
from stillhouse.edge.service.invites import invite
from stillhouse.edge.service.leases import LeaseConfig
from stillhouse.edge.service.refusals import Conflict, Gone
from stillhouse.edge.service.service import Service
from stillhouse.edge.service.serving import listen, running, teaching
from stillhouse.edge.service.web import edge_app
from stillhouse.errors import RunError
from stillhouse.methods.travel import pack
from stillhouse.recipes.preparing import prepare
from stillhouse.recipes.recipe import read_recipe
from stillhouse.recipes.run import as_wanted
from tests.edge.device.conftest import RECIPE, save_images
from tests.edge.learning.rooms import make_room, private_rows, train
from tests.edge.service.conftest import HTTPS, IN_PROCESS, MakeFleet

ASKED = 24
QUICK = EdgeConfig(distilling=DistillingConfig(batch_size=12, epochs=4.0))


def body(answers: Tensor) -> bytes:
    return save({"answers": answers.contiguous()})


@pytest.mark.parametrize("wire", [IN_PROCESS, HTTPS])
def test_a_core_learns_from_answers(make_fleet: MakeFleet, wire: str) -> None:
    lesson = Teaching(make_room(asked=ASKED), QUICK)
    fleet = make_fleet(wire, lesson=lesson)
    device = fleet.device("camera")
    lease = device.lease()
    assert lease.largest_change == QUICK.gate.largest_change
    questions = device.questions(lease.lease)
    assert (hashlib.sha256(questions).hexdigest(), len(questions)) == (lease.questions, lease.questions_size)
    assert device.questions(lease.lease, 1000) == questions[1000:]
    pixels = load(questions)["questions"]
    assert torch.equal(pixels, lesson.room.questions)
    clone = load(device.model(lease.lease))
    trained = train(lesson.room, clone, private_rows(lesson.room), steps=60)
    sent = body(answer(lesson.room.frozen(trained), pixels))
    device.send(lease.lease, sent)
    assert fleet.teach() == {}
    assert fleet.service.core.version == 1
    assert device.state(lease.lease).state == "applied"
    row = fleet.service.status().devices[0]
    assert row.bytes_up == len(sent)
    with pytest.raises(Gone):
        device.questions(lease.lease)


@pytest.mark.parametrize(
    ("answers", "told", "strikes"),
    [
        (torch.zeros(ASKED, 3, dtype=torch.float64), "float64", 1),
        (torch.full((ASKED, 3), torch.nan), "not finite", 1),
        (torch.zeros(ASKED - 1, 3), "belong to these questions", 0),
        (torch.zeros(ASKED, 3), "does not help", 0),
    ],
)
def test_odd_answers_are_refused(make_fleet: MakeFleet, answers: Tensor, told: str, strikes: int) -> None:
    fleet = make_fleet(lesson=Teaching(make_room(asked=ASKED), QUICK))
    device = fleet.device("camera")
    lease = device.lease().lease
    device.send(lease, body(answers))
    assert told in fleet.teach()[lease]
    assert fleet.service.core.version == 0
    assert fleet.service.status().devices[0].strikes == strikes


@pytest.mark.parametrize("other", [0, ASKED - 3])
def test_a_core_asks_the_same_for_its_life(make_fleet: MakeFleet, other: int) -> None:
    """Else it would ask about images that it learnt from, and devices with a lease would get another file."""
    fleet = make_fleet(lesson=Teaching(make_room(asked=ASKED), QUICK))
    lease = fleet.device("camera").lease()
    fleet.lesson = Teaching(make_room(asked=other), QUICK)
    with pytest.raises(RunError, match=f"{other} questions .* began with {ASKED} "):
        fleet.restart()
    fleet.lesson = Teaching(make_room(asked=ASKED), QUICK)
    fleet.restart()
    assert hashlib.sha256(fleet.device("camera").questions(lease.lease)).hexdigest() == lease.questions


def test_questions_are_free_until_there_is_a_core(make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as dying:
        dying.setattr(StateFolder, "write_version", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            make_fleet(lesson=Teaching(make_room(asked=ASKED), QUICK))
    fleet = make_fleet(lesson=Teaching(make_room(asked=ASKED - 3), QUICK))
    fleet.restart()
    assert fleet.service.core.version == 0


@pytest.mark.parametrize("wire", [IN_PROCESS, HTTPS])
def test_where_nothing_is_asked_answers_are_no_return(make_fleet: MakeFleet, wire: str) -> None:
    fleet = make_fleet(wire)
    device = fleet.device("camera")
    lease = device.lease()
    assert (lease.questions, lease.questions_size, lease.largest_change) == ("", 0, 0.0)
    with pytest.raises(Conflict):
        device.questions(lease.lease)
    device.send(lease.lease, body(torch.zeros(ASKED, 3)))
    assert "not in the clone" in fleet.teach()[lease.lease]


def test_a_device_that_answers_teaches_a_served_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real client against the real server: one visit with weights, one with answers, and what crossed the wire."""
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path / "cache"))
    images = save_images(tmp_path / "images", ("bird", "cat", "dog"), 10)
    recipe = as_wanted(RECIPE, str(images)).to_table()
    with torch.random.fork_rng():
        weights = pack(prepare(read_recipe(recipe)).method)
    settings = {"answers": {"images": 9}, "gate": {"useful": False}, "trial": {"shares": []}, "held_out": 0.3}
    lesson = open_teaching(Beginning(recipe, settings, weights))
    authority = Authority.create(tmp_path / "authority")
    authority.issue(["localhost"])
    service = Service(tmp_path / "state", lesson, LeaseConfig(beat_seconds=1.0, allowed_fall=1.0))
    told, up = list[str](), list[int]()
    try:
        app, line = edge_app(service, RECIPE), listen("127.0.0.1", 0)
        with teaching(service), running(app, line, authority.server_context()) as url:
            invitation = invite(
                service.database, "camera", url.replace("127.0.0.1", "localhost"), authority.pem, time.time()
            )
            client = Client(invitation)
            for answers in (False, True):
                Device(client, tmp_path / "device", str(images), answers=answers, tell=told.append).join(visits=1)
                up.append(service.status().devices[0].bytes_up - sum(up))
            client.close()
    finally:
        service.close()
    assert told[-1] == "clone of version 1: taught the core"
    assert service.core.version == 2
    header = 200
    assert up[0] == pytest.approx(sum(value.nbytes for value in weights.values()), rel=0.05)
    assert up[1] <= len(lesson.room.asked) * 3 * 4 + header
