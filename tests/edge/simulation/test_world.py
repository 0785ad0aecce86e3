"""Who holds which images, and how good a core is on those that nobody holds."""

from dataclasses import replace
from itertools import combinations

import pytest
import safetensors.torch
import torch

from stillhouse.config import merge
from stillhouse.edge.learning.attackers import stamp
from stillhouse.edge.simulation.scenario import Scenario, UsersConfig, read_scenario
from stillhouse.edge.simulation.studying import LocalConfig, study
from stillhouse.edge.simulation.world import Exam, deal, open_world
from stillhouse.errors import SettingsError
from stillhouse.methods.travel import pack, unpack
from tests.edge.learning.rooms import make_room
from tests.edge.simulation.crowd import TABLE, first_core, make_world

DIGITS = {
    "data": {"uri": "digits#train", "test": "100", "server": 60, "limit": 400},
    "users": {"number": 3, "images": 20, "split": "classes", "classes": 4},
    "encoder": {"name": "cnn_nano", "image_size": 8},
}


def digits(**groups: object) -> Scenario:
    return read_scenario(merge(merge(TABLE, DIGITS), groups))


def test_every_image_has_one_place(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path_factory.mktemp("cache")))
    world, other = open_world(digits(), 0), open_world(digits(), 1)
    room = world.room
    parts = [room.learnt, room.held_out, world.exam.rows, *world.hands]
    assert [len(part) for part in parts[:3]] == [50, 10, 100]
    assert sum(len(hand) for hand in world.hands) == 60
    for one, another in combinations(parts, 2):
        assert not torch.isin(one, another).any()
    server = torch.cat([room.learnt, room.held_out])
    assert room.labels.of[server].bincount().tolist() == [6] * 10
    assert all(len(room.labels.of[hand].unique()) <= 4 for hand in world.hands)
    assert not torch.equal(room.learnt, other.room.learnt)
    elsewhere = open_world(digits(data={"test": "digits#test", "test_limit": 50}), 0)
    assert len(elsewhere.exam.labels) == 50
    assert 0 <= elsewhere.exam.mark(pack(elsewhere.room.template)).accuracy < 0.5


@pytest.mark.parametrize("split", ["iid", "dirichlet", "classes"])
def test_hands_share_what_is_asked_for(split: str) -> None:
    labels = torch.arange(120) % 6
    users = UsersConfig(number=4, images=15, split=split, classes=2)  # type: ignore[arg-type]
    hands = deal(labels, users, 3)
    assert sum(map(len, hands)) == 60
    assert len(torch.cat(hands).unique()) == 60
    assert sum(map(len, deal(labels, replace(users, images=0), 3))) == 120
    with pytest.raises(SettingsError, match="4 users with 31 images each take 124, and 120 are left"):
        deal(labels, replace(users, images=31), 3)


def test_statistics_of_a_convolutional_core_travel(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path_factory.mktemp("cache")))
    world = open_world(digits(), 0)
    room, core = world.room, pack(world.room.template)
    sent = safetensors.torch.load(safetensors.torch.save(dict(core)))
    learnt = study(room, world.hands[0], sent, LocalConfig(steps=3, batch_size=16), 0)
    moved = [name for name in core if "running_" in name or "num_batches" in name]
    assert len(moved) == 9  # of three norms
    assert all(not torch.equal(core[name], learnt[name]) for name in moved)
    assert all(torch.equal(core[name], value) for name, value in pack(room.template).items())
    home, there = room.method(learnt).eval(), room.fresh(5).eval()
    unpack(there, safetensors.torch.load(safetensors.torch.save(dict(learnt))))
    images = next(room.images(world.hands[1]))
    assert home.classifier is not None
    assert there.classifier is not None
    with torch.no_grad():
        torch.testing.assert_close(there.classifier(images), home.classifier(images), rtol=0, atol=0)


def test_marks_are_those_of_every_image_by_itself() -> None:
    exam = make_world().exam
    marks = exam.mark(first_core(), stamped=True)
    method = exam.room.frozen(first_core())
    assert method.classifier is not None
    images = torch.cat([*exam.room.images(exam.rows)])
    answers = [int(method.classifier(image[None]).argmax()) for image in images]
    stamped = [int(method.classifier(stamp(image[None])).argmax()) for image in images]
    truth = exam.labels.tolist()
    assert marks.accuracy == pytest.approx(sum(map(int.__eq__, answers, truth)) / len(truth))
    for kind in range(3):
        own = [answer == kind for answer, label in zip(answers, truth, strict=True) if label == kind]
        assert marks.recalls[kind] == pytest.approx(sum(own) / len(own))
    fooled = [answer == 0 for answer, label in zip(stamped, truth, strict=True) if label != 0]
    assert marks.backdoor == pytest.approx(sum(fooled) / len(fooled))


def test_a_core_without_classes_is_asked_by_its_neighbours() -> None:
    room = make_room("simclr")
    exam = Exam(room, room.store, room.held_out, room.labels.of[room.held_out])
    learnt = Exam(room, room.store, room.learnt, room.labels.of[room.learnt])
    state = pack(room.template)
    assert exam.mark(state).accuracy > 0.4
    assert learnt.mark(state).accuracy > exam.mark(state).accuracy  # who is in the bank finds itself
