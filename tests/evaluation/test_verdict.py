"""A verdict without labels."""

import pytest
import torch
from torch import Tensor

from stillhouse.evaluation.verdict import judge
from stillhouse.health import examine
from tests.evaluation.test_recognition import drawn


def around(mean: float, seed: int = 0) -> Tensor:
    return mean + 0.2 * drawn(200, seed=seed)


ROUND, FLAT, SAME = drawn(200, 16), drawn(200, 1) * torch.ones(16), torch.ones(200, 16)


def test_what_beats_its_baselines_is_healthy_and_needs_no_advice() -> None:
    verdict = judge(
        examine(ROUND), around(0.5), {"raw pixels": around(0.2, 1), "the untrained network": around(0.1, 2)}
    )
    assert verdict.level == "healthy"
    assert verdict.advice == ""
    assert verdict.score == pytest.approx(0.5, abs=0.05)
    assert verdict.sentence.startswith("healthy, because an image is known again in another view of it by 0.")
    assert "raw pixels 0." in verdict.sentence


def test_what_is_within_the_noise_of_a_baseline_is_weak_and_told_to_learn_more() -> None:
    verdict = judge(examine(ROUND), around(0.3), {"raw pixels": around(0.3, 1)})
    assert verdict.level == "weak"
    assert "no better than raw pixels" in verdict.sentence
    assert "more epochs" in verdict.advice


def test_what_falls_below_a_baseline_is_told_that_training_lost_it() -> None:
    verdict = judge(examine(ROUND), around(0.1), {"the untrained network": around(0.3, 1)})
    assert (verdict.level, "taken away" in verdict.advice) == ("weak", True)


@pytest.mark.parametrize("vectors", [SAME, FLAT])
def test_vectors_that_are_alike_have_collapsed_whatever_is_recognised(vectors: Tensor) -> None:
    verdict = judge(examine(vectors), around(0.9), {})
    assert verdict.level == "collapsed"
    assert verdict.advice


def test_recognition_by_chance_is_weak() -> None:
    verdict = judge(examine(ROUND), 0.2 * (drawn(200) - drawn(200).mean()), {})
    assert (verdict.level, "more epochs" in verdict.advice) == ("weak", True)
    assert "not known again" in verdict.sentence


def test_few_directions_are_told_apart_from_like_vectors() -> None:
    narrow = torch.cat([drawn(200, 1), 0.02 * drawn(200, 15, seed=1)], 1)
    assert "prototypes" in judge(examine(narrow), around(0.5), {}).advice
    alike = 5 + 0.3 * drawn(200, 16)
    assert "teacher" in judge(examine(alike), around(0.5), {}).advice


def test_nothing_to_compare_is_unknown() -> None:
    assert judge(examine(ROUND), torch.empty(0), {}).level == "unknown"
    assert judge(examine(ROUND[:1]), around(0.5), {}).level == "unknown"
