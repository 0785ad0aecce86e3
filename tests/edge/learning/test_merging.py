"""Merging rules at values worked out by hand."""

import pytest
import torch

from stillhouse.edge.learning.merging import FedAsync, FedAvg, FedBuff, FedDF, average, mix, moved_by
from stillhouse.edge.lesson import State
from stillhouse.methods.travel import pack
from tests.edge.learning.rooms import arrival, make_room, private_rows, same, train


def state(value: float, variance: float = 1.0) -> State:
    return {"w": torch.tensor([value, 2 * value]), "running_var": torch.tensor([variance]), "n": torch.tensor(3)}


def test_the_mean_of_clones_takes_the_place_of_the_core() -> None:
    merged = FedAvg()(state(9.0), [arrival(state(1.0), state(0.0)), arrival(state(3.0), state(0.0))], 1)[0]
    assert merged["w"].tolist() == [2.0, 4.0]
    assert merged["n"].item() == 3


def test_fedasync_mixes_less_of_what_is_stale() -> None:
    fresh = FedAsync()(state(0.0), [arrival(state(1.0), state(0.0))], 1)[0]
    stale = FedAsync()(state(0.0), [arrival(state(1.0), state(0.0), staleness=3)], 1)[0]
    assert fresh["w"].tolist() == pytest.approx([0.6, 1.2])
    assert stale["w"].tolist() == pytest.approx([0.3, 0.6])


def test_fedbuff_adds_changes_to_a_core_that_went_on() -> None:
    sent = [arrival(state(1.0), state(0.0)), arrival(state(5.0), state(3.0), staleness=3)]
    merged = FedBuff()(state(10.0), sent, 1)[0]
    assert merged["w"].tolist() == pytest.approx([10 + (1.0 + 0.5 * 2.0) / 2, 20 + (2.0 + 0.5 * 4.0) / 2])


def test_variances_stay_possible_and_an_idle_change_is_exact() -> None:
    core = state(0.1, variance=0.1)
    moved = moved_by(core, [arrival(state(0.1, 0.0), state(0.1, 1.0))], [1.0])
    assert moved["running_var"].item() == 0.0
    assert same(moved_by(core, [arrival(state(9.0), state(0.0))], [0.0]), core)
    assert moved["w"].data_ptr() != core["w"].data_ptr()


def test_the_ends_of_a_line() -> None:
    core, other = state(0.1), state(0.7)
    assert same(mix(core, other, 0.0), core)
    assert same(mix(core, other, 1.0), other)
    assert mix(core, other, 0.5)["w"].tolist() == pytest.approx([0.4, 0.8])
    assert same(average([core, other], [1.0, 0.0]), core)


def test_feddf_learns_what_clones_say_together() -> None:
    room = make_room()
    core = train(room, pack(room.template), room.learnt, steps=20)
    sent = [arrival(train(room, core, private_rows(room, *classes), steps=60), core) for classes in ((0,), (1, 2))]
    wanted = torch.stack([room.scores(room.frozen(a.state)) for a in sent]).mean(0).softmax(1)
    merged, taught = (rule(core, sent, 1)[0] for rule in (FedAvg(), FedDF(room, epochs=20.0, batch_size=16)))
    distance = [(room.scores(room.frozen(s)).softmax(1) - wanted).square().sum().item() for s in (merged, taught)]
    assert distance[1] < distance[0]
