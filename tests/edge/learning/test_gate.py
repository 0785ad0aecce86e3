"""Honest clones pass, whatever else comes is refused or survived."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stillhouse.edge.learning import attackers
from stillhouse.edge.learning.gate import (
    GateConfig,
    check_change,
    check_scores,
    check_structure,
    check_vectors,
    recalls,
    relative_change,
    useful_gain,
)
from stillhouse.edge.lesson import State

GATE = GateConfig()
LABELS = torch.arange(60) % 3


def weights() -> State:
    generator = torch.Generator().manual_seed(0)
    return {
        "layer.weight": torch.randn(4, 5, generator=generator),
        "norm.running_mean": torch.zeros(4),
        "norm.running_var": torch.ones(4),
        "norm.num_batches_tracked": torch.tensor(7),
    }


def scores(skill: float, seed: int = 0) -> Tensor:
    noise = torch.randn(60, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return noise + skill * F.one_hot(LABELS, 3)


HOSTILE: dict[str, Any] = {
    "nothing": None,
    "a list": [1, 2],
    "numbers for names": dict.fromkeys(range(4), torch.zeros(1)),
    "an empty table": {},
    "text": dict.fromkeys(weights(), "weights"),
    "a sparse tensor": {**weights(), "layer.weight": torch.zeros(4, 5).to_sparse()},
    "a tensor without memory": {**weights(), "layer.weight": torch.zeros(4, 5, device="meta")},
    "complex numbers": {**weights(), "layer.weight": torch.zeros(4, 5, dtype=torch.complex64)},
    "half precision": {**weights(), "layer.weight": torch.zeros(4, 5, dtype=torch.float16)},
    "a negative variance": {**weights(), "norm.running_var": torch.tensor([1.0, 1.0, -1e-3, 1.0])},
    "an infinite mean": {**weights(), "norm.running_mean": torch.full((4,), torch.inf)},
    "a negative count": {**weights(), "norm.num_batches_tracked": torch.tensor(-1)},
    "a count beyond counting": {**weights(), "norm.num_batches_tracked": torch.tensor(2**62)},
    "another rank": {**weights(), "norm.num_batches_tracked": torch.tensor([7])},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_no_honest_device_sends_is_refused_as_hostile(name: str) -> None:
    decision = check_structure(weights(), HOSTILE[name])
    assert not decision.accepted
    assert decision.hostile
    assert ": " in decision.reason


@pytest.mark.parametrize("name", ["not_a_number", "infinite", "misshapen", "mistyped", "missing", "extra"])
def test_broken_returns_are_refused(name: str) -> None:
    assert check_structure(weights(), attackers.ATTACKS[name](weights(), weights(), 0)).hostile


def test_the_core_itself_passes_the_first_checks() -> None:
    assert check_structure(weights(), weights()).accepted
    assert check_change(weights(), weights(), GATE).accepted
    assert relative_change(weights(), weights()) == 0.0


def test_how_far_weights_moved() -> None:
    base = weights()
    moved = {**base, "layer.weight": 1.5 * base["layer.weight"], "norm.running_mean": torch.full((4,), 1e9)}
    assert relative_change(base, moved) == pytest.approx(0.5, abs=1e-6)
    assert check_change(base, moved, GateConfig(largest_change=0.6)).accepted
    assert "0.5 of their norm" in check_change(base, moved, GateConfig(largest_change=0.4)).reason
    huge = {**base, "layer.weight": torch.full((4, 5), 3e38)}
    assert not check_change(base, huge, GATE).accepted
    blank = {**base, "layer.weight": torch.zeros(4, 5)}
    assert not check_change(blank, base, GATE).accepted


def test_a_clone_as_good_as_the_core_passes_a_margin_and_a_useless_one_is_told_so() -> None:
    core = scores(2.0)
    assert check_scores(core, core, core, LABELS, GateConfig(useful=False, margin=0.0)).accepted
    assert "does not help" in check_scores(core, core, core, LABELS, GATE).reason


def test_skewed_but_useful_clones_pass() -> None:
    """A clone that forgot class 2, and that knows classes 0 and 1 better, has something to teach."""
    core, knowledge = scores(1.0), F.one_hot(LABELS, 3) * torch.tensor([2.0, 2.0, 0.0], dtype=torch.float64)
    mixture = torch.tensor([3.0, 3.0, -6.0], dtype=torch.float64)
    assert check_scores(core, core, core + knowledge + mixture, LABELS, GATE).accepted
    assert check_scores(core, core, core + knowledge + mixture, LABELS, GateConfig(margin=0.08)).accepted  # by class


def test_harm_is_refused() -> None:
    core, honest = scores(1.0), F.one_hot(LABELS, 3).double()
    assert "does not help" in check_scores(core, core, core - 5 * honest, LABELS, GATE).reason
    strict = GateConfig(margin=0.08, class_gain=2.0)
    assert "fewer are right" in check_scores(core, core, scores(0.0, seed=3), LABELS, strict).reason


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e308])
def test_scores_that_are_no_numbers_are_hostile(value: float) -> None:
    broken = scores(2.0)
    broken[0] = torch.tensor([value, -value, value])
    decision = check_scores(scores(2.0), scores(2.0), broken, LABELS, GATE)
    assert not decision.accepted


def test_gain_counts_what_was_changed_and_not_the_mixture() -> None:
    core = scores(1.0)
    assert useful_gain(core, core, core, LABELS) == 0.0
    assert useful_gain(core, core, core + torch.tensor([9.0, -9.0, 0.0]), LABELS) < 1e-9
    honest = core + F.one_hot(LABELS, 3)
    assert useful_gain(core, core, honest, LABELS) > 0.05
    assert useful_gain(core, scores(1.0, 5), scores(1.0, 5) + F.one_hot(LABELS, 3), LABELS) > 0.05  # a stale clone


def test_recall_by_hand() -> None:
    told = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    found = recalls(told, torch.tensor([0, 1, 1]))
    assert found[:2].tolist() == [1.0, 0.5]
    assert found[2].isnan()


def views(spread: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(50, 8, generator=generator)
    return rows, rows + 0.3 * spread * torch.randn(50, 8, generator=generator)


def test_vectors_that_tell_images_apart_pass() -> None:
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(1))).Q
    core = views()
    assert check_vectors(core, core, GATE).accepted
    assert check_vectors(core, (3 * core[0] @ turn, 3 * core[1] @ turn), GATE).accepted


def test_vectors_that_collapsed_or_drifted_do_not() -> None:
    core = views()
    flat = (core[0] * torch.tensor([1.0] + [1e-3] * 7), core[1] * torch.tensor([1.0] + [1e-3] * 7))
    assert "directions" in check_vectors(core, flat, GATE).reason
    assert "alignment" in check_vectors(core, views(3.0), GATE).reason
    assert not check_vectors(core, (core[0] + 1.0, core[1] + 1.0), GATE).accepted
    assert not check_vectors(core, (torch.zeros(50, 8), torch.zeros(50, 8)), GATE).accepted
    assert check_vectors(core, (core[0] * torch.nan, core[1]), GATE).hostile
