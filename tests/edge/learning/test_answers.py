"""Answers instead of weights: what teaches, what is refused, and that only what was said enters the core."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stillhouse.edge.learning.answer_distiller import AnswerDistiller
from stillhouse.edge.learning.answer_gate import check_answers, check_spread, concentration, crossed_gain
from stillhouse.edge.learning.classroom import open_classroom
from stillhouse.edge.learning.gate import GateConfig
from stillhouse.edge.learning.hearing import Hearing
from stillhouse.edge.learning.settings import AnswersConfig, DistillingConfig, EdgeConfig
from stillhouse.edge.learning.teaching import Teaching
from stillhouse.edge.lesson import Arrival, State
from stillhouse.edge.questions import answer
from stillhouse.errors import SettingsError
from stillhouse.methods.travel import pack
from stillhouse.recipes.run import as_wanted
from tests.edge.learning.rooms import answered, arrival, make_room, private_rows, same, train

ASKED = 24
LABELS = torch.arange(60) % 3
QUICK = DistillingConfig(batch_size=12, epochs=4.0)


def teaching(kind: str = "classes", **settings: Any) -> Teaching:
    return Teaching(make_room(kind, asked=ASKED), EdgeConfig(**{"distilling": QUICK, **settings}))


@pytest.fixture(scope="module")
def lesson() -> Teaching:
    return teaching()


@pytest.fixture(scope="module")
def core(lesson: Teaching) -> State:
    return lesson.start().state


@pytest.fixture(scope="module")
def honest(lesson: Teaching, core: State) -> State:
    return train(lesson.room, core, private_rows(lesson.room), steps=60)


def scores(skill: float, seed: int = 0) -> Tensor:
    noise = torch.randn(60, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (noise + skill * F.one_hot(LABELS, 3)).float()


def test_either_weights_or_answers_come_back(core: State) -> None:
    for state, answers in (({}, None), (core, scores(1.0))):
        with pytest.raises(AssertionError):
            Arrival("somebody", 0, 0, state, core, answers)


@pytest.mark.parametrize(
    ("made", "hostile", "told"),
    [
        (scores(1.0).double(), True, "float64"),
        (scores(1.0)[0], True, "1 dimensions"),
        (scores(1.0)[:-1], False, "belong to these questions"),
        (scores(1.0)[:, :2], False, "belong to these questions"),
        (scores(1.0).index_fill(0, torch.tensor([3]), torch.nan), True, "not finite"),
        (scores(1.0).index_fill(0, torch.tensor([3]), torch.inf), True, "not finite"),
        (
            scores(1.0) + 50 * F.one_hot(LABELS, 3) * (torch.arange(60) == 7)[:, None],
            False,
            "times as far as what is said about the others",
        ),
        (scores(1.0) + 1e7 * F.one_hot(LABELS, 3), True, "no network says so"),
    ],
)
def test_odd_answers_are_refused(made: Tensor, hostile: bool, told: str) -> None:
    decision = check_answers(made, scores(1.0), AnswersConfig())
    assert not decision.accepted
    assert decision.hostile == hostile
    assert told in decision.reason


def test_how_concentrated_a_change_is() -> None:
    said = torch.tensor([[1.0, -1.0], [2.0, -2.0], [0.0, 1.0], [3.0, 1.0]])
    assert concentration(said, said) == 0.0
    assert concentration(said + 5, said) == 0.0  # the mean of scores means nothing
    assert concentration(said + 5, said, scores=False) == pytest.approx(1.0)  # that of vectors does
    assert concentration(said + torch.tensor([[0.5, -0.5]] * 3 + [[1.5, -1.5]]), said) == pytest.approx(3.0)
    assert concentration(said + torch.tensor([[0.0, 0.0]] * 3 + [[1.5, -1.5]]), said) == math.inf
    assert check_answers(said, said, AnswersConfig()).accepted


def test_gain_is_judged_on_images_that_it_was_not_fitted_on() -> None:
    core, knowledge = scores(1.0), F.one_hot(LABELS, 3).float()
    assert crossed_gain(core, core, core, LABELS) == 0.0
    assert crossed_gain(core, core, core + knowledge, LABELS) > 0.05
    assert crossed_gain(core, core, core - knowledge, LABELS) <= 0.0
    assert abs(crossed_gain(core, core, core + torch.tensor([9.0, -9.0, 0.0]), LABELS)) < 1e-5  # a mixture of classes
    chance = [crossed_gain(core, core, core + scores(0.0, seed), LABELS) for seed in range(1, 41)]
    assert sum(chance) / 40 < 0.0  # what fits half of the images by chance does not fit the other half


def test_answers_of_an_honest_clone_teach(lesson: Teaching, core: State, honest: State) -> None:
    returned = answered(lesson.room, honest, core)
    assert lesson.examine(core, returned).accepted
    taught = lesson.teach(core, [returned], 1)
    assert lesson.judge.verdict(taught.state).loss < lesson.judge.verdict(core).loss
    assert taught.measures["kept"] > 0
    assert taught.measures["attend"] >= 0
    assert same(taught.state, lesson.teach(core, [returned], 1).state)


def test_the_student_says_what_is_wanted_of_it(lesson: Teaching, core: State, honest: State) -> None:
    """With equal strengths, and no other term, it comes near to what the clone says."""
    config = replace(QUICK, strengths="equal", centred=False, listen="everywhere", epochs=20.0)
    rule = AnswerDistiller(Hearing(lesson.room), config, AnswersConfig(attend=1.0))
    taught, wanted = rule(core, [answered(lesson.room, honest, core)], 1)[0], answer(*asked(lesson, honest))
    far = [(answer(*asked(lesson, state)).softmax(1) - wanted.softmax(1)).square().sum() for state in (core, taught)]
    assert far[1] < 0.3 * far[0]


def asked(lesson: Teaching, state: State) -> tuple[Any, Tensor]:
    return lesson.room.frozen(state), lesson.room.questions


@pytest.mark.parametrize("kind", ["classes", "simclr", "byol"])
def test_what_an_untouched_clone_says_changes_nothing(kind: str) -> None:
    lesson = teaching(kind)
    core = pack(lesson.room.template)
    config = replace(QUICK, strengths="equal", norms="still", weight_decay=0.0)
    rule = AnswerDistiller(Hearing(lesson.room), config, AnswersConfig(attend=1.0))
    taught = rule(core, [answered(lesson.room, core, core)], 1)[0]
    assert all(torch.allclose(value, core[name], atol=1e-6) for name, value in taught.items())


@pytest.mark.parametrize("factor", [0.0, -1.0])
def test_answers_that_tell_nothing_or_harm_are_refused(
    lesson: Teaching, core: State, honest: State, factor: float
) -> None:
    returned = answered(lesson.room, honest, core)
    own = answer(*asked(lesson, core))
    assert returned.answers is not None
    bent = replace(returned, answers=own + factor * (returned.answers - own))
    assert "does not help" in lesson.examine(core, bent).reason
    assert lesson.judge.verdict(lesson.teach(core, [bent], 1).state).loss <= lesson.judge.verdict(core).loss


def test_a_stale_clone_is_measured_against_what_it_was_sent(lesson: Teaching, core: State, honest: State) -> None:
    newer = train(lesson.room, core, lesson.room.learnt, steps=3)
    idle = answered(lesson.room, core, core, staleness=1)
    assert same(lesson.teach(newer, [idle], 2).state, newer)
    assert not same(lesson.teach(newer, [answered(lesson.room, honest, core, staleness=1)], 2).state, newer)


def test_weights_and_answers_teach_in_one_lesson(lesson: Teaching, core: State, honest: State) -> None:
    other = train(lesson.room, core, private_rows(lesson.room, 0, 1))
    both = [answered(lesson.room, honest, core), arrival(other, core)]
    taught = lesson.teach(core, both, 1)
    assert lesson.judge.verdict(taught.state).loss < lesson.judge.verdict(core).loss
    assert not same(taught.state, lesson.teach(core, both[1:], 1).state)
    assert {"strength", "answers_strength"} <= taught.measures.keys()


def test_answers_are_held_against_what_was_sent_whatever_weights_taught_before(
    lesson: Teaching, core: State, honest: State
) -> None:
    """An untouched clone says nothing new, though the core has gone on in the same lesson."""
    rule = AnswerDistiller(
        Hearing(lesson.room), replace(QUICK, strengths="equal", norms="still"), AnswersConfig(attend=1.0)
    )
    silent = answered(lesson.room, core, core)
    taught = rule(honest, [silent], 1)[0]
    said, own, before = (answer(*asked(lesson, state)).softmax(1) for state in (taught, honest, core))
    assert (said - own).abs().max() < 0.1 * (before - own).abs().max()


@pytest.mark.parametrize("compare", ["relations", "anchors", "directions"])
def test_without_labels_vectors_are_answered(compare: Any) -> None:
    lesson = teaching("simclr", distilling=replace(QUICK, compare=compare, every_depth=True))
    core = pack(lesson.room.template)
    returned = answered(lesson.room, train(lesson.room, core, private_rows(lesson.room)), core)
    assert returned.answers is not None
    assert returned.answers.shape == (ASKED, 16)
    assert lesson.examine(core, returned).accepted
    assert not same(lesson.answer_rule(core, [returned], 1)[0], core)
    assert "directions" in check_spread(returned.answers, returned.answers[:, :1].expand(-1, 16), GateConfig()).reason
    near = F.normalize(returned.answers + 9 * returned.answers.mean(0), dim=1)
    assert not lesson.examine(core, replace(returned, answers=near)).accepted


def test_a_lesson_without_questions_takes_no_answers(core: State) -> None:
    lesson = Teaching(make_room(), EdgeConfig(distilling=QUICK))
    assert lesson.terms().questions is None
    assert not lesson.examine(core, Arrival("somebody", 0, 0, {}, core, scores(1.0))).accepted


def test_questions_are_whole_steps_of_brightness_and_no_other_images() -> None:
    settings = {
        "data.limit": 120, "encoder.name": "vit_nano", "encoder.patch_size": 4, "method.head_layer": 0,
        "training.device": "cpu", "training.steps": 3, "training.batch_size": 16,
    }  # fmt: skip
    recipe = as_wanted("simclrv2-finetune", "digits#train", settings)
    room = open_classroom(recipe, 0.25, 30)
    parts = [set(rows.tolist()) for rows in (room.learnt, room.held_out, room.asked)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 120
    assert abs(len(room.asked) - 30) <= 5
    assert room.questions.dtype == torch.uint8
    assert room.questions.shape == (len(room.asked), 3, room.image_size, room.image_size)
    whole = next(room.images(room.asked[:4])) * 255
    torch.testing.assert_close(room.questions[:4].float(), whole, atol=0.5, rtol=0)
    with pytest.raises(SettingsError, match=r"answers\.images: 60 of the 91"):
        open_classroom(recipe, 0.25, 60)
