"""The whole lesson: it starts, examines, teaches, does not forget, and lets nobody hurt the core."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from stillhouse.edge.learning import attackers
from stillhouse.edge.learning.classroom import Classroom
from stillhouse.edge.learning.distiller import Distiller, DistillingConfig
from stillhouse.edge.learning.merging import mix
from stillhouse.edge.learning.opening import open_teaching
from stillhouse.edge.learning.teaching import EdgeConfig, Teaching, TrialConfig
from stillhouse.edge.lesson import State
from stillhouse.edge.service.core import Beginning
from stillhouse.methods.method import Method
from stillhouse.methods.travel import pack
from stillhouse.recipes.preparing import prepare
from stillhouse.recipes.recipe import read_recipe
from stillhouse.recipes.run import as_wanted
from tests.edge.learning.rooms import arrival, make_room, private_rows, same, train

QUICK = DistillingConfig(batch_size=16, epochs=2.0)


def teaching(kind: str = "classes", **settings: Any) -> Teaching:
    return Teaching(make_room(kind), EdgeConfig(**{"distilling": QUICK, **settings}))


@pytest.fixture(scope="module")
def lesson() -> Teaching:
    return teaching()


@pytest.fixture(scope="module")
def core(lesson: Teaching) -> State:
    return lesson.start().state


@pytest.mark.parametrize("kind", ["classes", "simclr", "byol"])
def test_a_core_starts_is_taught_and_comes_out_the_same_again(kind: str) -> None:
    lesson = teaching(kind, distilling=replace(QUICK, student="core") if kind != "classes" else QUICK)
    first = lesson.start()
    assert same(first.state, lesson.start().state)
    assert next(iter(first.scores)) == ("accuracy" if kind == "classes" else "knn")
    returned = arrival(train(lesson.room, first.state, private_rows(lesson.room)), first.state)
    taught = lesson.teach(first.state, [returned], 1)
    assert same(taught.state, lesson.teach(first.state, [returned], 1).state)
    assert taught.state.keys() == first.state.keys()
    assert 0.0 <= taught.measures["kept"] <= 1.0


def test_without_labels_a_core_is_judged_by_its_own_loss() -> None:
    room = make_room("simclr", labels=False)
    scores = Teaching(room, EdgeConfig(distilling=QUICK)).start().scores
    assert list(scores) == ["minus_loss", "effective_rank"]


def test_an_honest_clone_passes_and_improves_the_core(lesson: Teaching, core: State) -> None:
    returned = arrival(train(lesson.room, core, private_rows(lesson.room), steps=60), core)
    assert lesson.examine(core, returned).accepted
    before, after = (lesson.judge.verdict(s) for s in (core, lesson.teach(core, [returned], 1).state))
    assert after.loss < before.loss


def test_nobody_is_asked_twice_in_a_lesson(core: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gate, rule, trial and judge share what they heard; the result is that of a lesson where each asks anew."""
    lesson, asked, ask = teaching(), list[Method](), Classroom.scores
    returned = arrival(train(lesson.room, core, private_rows(lesson.room), steps=60), core)

    def listen(room: Classroom, method: Method) -> Tensor:
        asked.append(method)
        return ask(room, method)

    monkeypatch.setattr(Classroom, "scores", listen)
    assert lesson.examine(core, returned).accepted
    taught = lesson.teach(core, [returned], 1)
    states = [pack(method) for method in asked]
    assert len(asked) == 2 + len(lesson.config.trial.shares)  # the core, the clone, and the points that are tried
    assert not any(same(one, other) for place, one in enumerate(states) for other in states[:place])
    alone = Distiller(lesson.room, QUICK)(core, [returned], 1)[0]
    assert any(same(mix(core, alone, share), taught.state) for share in lesson.config.trial.shares)
    before = len(asked)
    lesson.examine(core, returned)
    assert len(asked) == before + 2  # nothing of a lesson is kept


def test_clones_of_one_class_each_do_not_make_the_core_forget(lesson: Teaching, core: State) -> None:
    room, taught = lesson.room, core
    before = room.scores(room.frozen(core)).argmax(1) == room.known
    for version, answer in enumerate((0, 1, 2, 0), start=1):
        returned = arrival(train(room, taught, private_rows(room, answer)), taught)
        taught = lesson.teach(taught, [returned], version).state
    after = room.scores(room.frozen(taught)).argmax(1) == room.known
    assert after.double().mean() >= before.double().mean() - 0.04  # four lessons, 0.01 each


def test_without_a_trial_merged_clones_of_one_class_do(lesson: Teaching, core: State) -> None:
    """So that the test above can fail."""
    room = lesson.room
    fedasync = teaching(rule="fedasync", trial=TrialConfig(shares=()))
    taught = core
    for version in range(1, 4):
        taught = fedasync.teach(
            taught, [arrival(train(room, taught, private_rows(room, 0), steps=60), taught)], version
        ).state
    right = (room.scores(room.frozen(taught)).argmax(1) == room.known).double().mean()
    assert right < 0.6


@pytest.mark.parametrize("attack", attackers.ATTACKS)
def test_attacks_are_refused_or_do_no_harm(lesson: Teaching, core: State, attack: str) -> None:
    honest = train(lesson.room, core, private_rows(lesson.room))
    returned = arrival(attackers.ATTACKS[attack](core, honest, 0), core)
    decision = lesson.examine(core, returned)
    if attack in ("not_a_number", "infinite", "misshapen", "mistyped", "missing", "extra"):
        assert decision.hostile
        return
    if attack == "free_rider":
        assert not decision.accepted
    before, after = (lesson.judge.verdict(s) for s in (core, lesson.teach(core, [returned], 1).state))
    assert after.loss <= before.loss
    assert after.floor >= before.floor - 0.01


def test_rejecting_changes_nothing(lesson: Teaching, core: State) -> None:
    copy = {name: value.clone() for name, value in core.items()}
    broken = attackers.not_a_number(core, core, 0)
    lesson.examine(core, arrival(broken, core))
    assert same(core, copy)


def test_a_lesson_that_breaks_leaves_the_core_as_it_was(core: State) -> None:
    name = next(name for name, value in core.items() if value.ndim == 2)
    lesson = teaching(distilling=replace(QUICK, target="clone", student="core", strengths="equal", attend=1.0))
    taught = lesson.teach(core, [arrival({**core, name: core[name] * torch.nan}, core)], 1)
    assert same(taught.state, core)
    assert taught.measures["abandoned"] == 1.0


@pytest.mark.parametrize("rule", ["rehearse", "fedasync", "fedbuff", "fedavg", "feddf"])
def test_rules_to_compare_with_sit_behind_the_same_seam(core: State, rule: str) -> None:
    lesson = teaching(rule=rule, trial=TrialConfig(shares=()))
    returned = train(lesson.room, core, private_rows(lesson.room))
    taught = lesson.teach(core, [arrival(returned, core)], 1)
    assert not same(taught.state, core)
    assert taught.measures["kept"] == 1.0
    if rule == "fedavg":
        assert same(taught.state, returned)


def test_without_labels_collapse_is_refused() -> None:
    lesson = teaching("simclr")
    core = pack(lesson.room.template)
    assert lesson.examine(core, arrival(core, core)).accepted
    name = next(name for name, value in core.items() if value.ndim == 2)
    flat = {**core, name: core[name].mean(0, keepdim=True).expand_as(core[name]).contiguous()}
    assert not lesson.examine(core, arrival(flat, core)).accepted


def test_a_lesson_opens_from_a_recipe() -> None:
    settings = {
        "data.limit": 120, "encoder.name": "vit_nano", "encoder.patch_size": 4, "method.head_layer": 0,
        "training.device": "cpu", "training.steps": 3, "training.batch_size": 16,
    }  # fmt: skip
    recipe = as_wanted("simclrv2-finetune", "digits#train", settings).to_table()
    weights = pack(prepare(read_recipe(recipe)).method)
    lesson = open_teaching(Beginning(recipe, {"held_out": 0.25}, weights))
    room = lesson.room
    assert not set(room.learnt.tolist()) & set(room.held_out.tolist())
    assert len(room.learnt) + len(room.held_out) == 120
    assert set(lesson.start().scores) == {"accuracy", "cross_entropy"}
    assert same(lesson.start().state, weights)
    assert not same(pack(room.build(room.training.seed + 1)), pack(room.template))
