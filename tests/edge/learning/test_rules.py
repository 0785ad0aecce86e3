"""Targets, strengths and listening against closed forms, slow loops and optimality conditions, in float64."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stillhouse.edge.learning.rules import (
    LISTENING,
    calibrated_loss,
    calibration,
    cloned,
    common,
    fit_strengths,
    mean_shares,
    residual,
)
from stillhouse.losses.logits import distillation_of_each, knowledge_distillation


def scores(count: int = 40, classes: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(count, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


LABELS = torch.arange(40) % 4


def test_an_untouched_clone_changes_no_target_however_stale_it_is() -> None:
    core, clone = scores(seed=1), scores(seed=2)
    assert torch.equal(residual(core, [clone - clone], torch.ones(1)), core)


def test_a_fresh_clone_gives_its_own_scores_at_full_strength() -> None:
    core, teacher = scores(seed=1), scores(seed=2)
    torch.testing.assert_close(residual(core, [teacher - core], torch.ones(1)), teacher)


def test_residual_equals_a_loop() -> None:
    core, moves, strengths = scores(), [scores(seed=n) for n in (1, 2, 3)], torch.tensor([0.2, 0.0, 1.5])
    slow = core.clone()
    for move, strength in zip(moves, strengths.tolist(), strict=True):
        slow += strength * move
    torch.testing.assert_close(residual(core, moves, strengths), slow, rtol=1e-6, atol=1e-6)


def test_clones_are_joined_by_scores_or_by_shares() -> None:
    one, two = scores(seed=1), scores(seed=2)
    assert torch.equal(cloned([one]), one)
    torch.testing.assert_close(cloned([one, two]), (one + two) / 2)
    torch.testing.assert_close(
        (mean_shares([one, two], 0.5) / 0.5).softmax(1), ((one / 0.5).softmax(1) + (two / 0.5).softmax(1)) / 2
    )


def test_a_gradient_towards_mean_shares_is_the_mean_of_the_gradients() -> None:
    one, two, student = scores(seed=1), scores(seed=2), scores(seed=3).requires_grad_()
    joint = torch.autograd.grad(knowledge_distillation(student, mean_shares([one, two], 2.0), 2.0), student)[0]
    each = [torch.autograd.grad(knowledge_distillation(student, teacher, 2.0), student)[0] for teacher in (one, two)]
    torch.testing.assert_close(joint, (each[0] + each[1]) / 2)


def test_attending_and_retaining_are_one_pull_to_a_mixture() -> None:
    """The two forms differ by what does not depend on the student."""
    teacher, buffer, attend, retain, t = scores(seed=1), scores(seed=2), 0.7, 1.5, 3.0
    shares = (attend * (teacher / t).softmax(1) + retain * (buffer / t).softmax(1)) / (attend + retain)
    mixture = t * shares.log()
    differences = []
    for seed in (3, 4, 5):
        student = scores(seed=seed)
        apart = attend * knowledge_distillation(student, teacher, t) + retain * knowledge_distillation(
            student, buffer, t
        )
        differences.append(apart - (attend + retain) * knowledge_distillation(student, mixture, t))
    assert max(differences) - min(differences) < 1e-12


def test_gradient_of_distillation() -> None:
    student, teacher, t = scores(seed=1).requires_grad_(), scores(seed=2), 4.0
    (gradient,) = torch.autograd.grad(distillation_of_each(student, teacher, t).mean(), student)
    expected = t * ((student / t).softmax(1) - (teacher / t).softmax(1)) / len(student)
    assert (gradient - expected).abs().max() < 1e-12


def test_hot_distillation_is_a_squared_distance_of_centred_scores() -> None:
    student, teacher = scores(seed=1), scores(seed=2)
    centred = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    expected = centred.square().sum(1) / (2 * student.shape[1])
    torch.testing.assert_close(distillation_of_each(student, teacher, 1e4), expected, rtol=1e-3, atol=1e-6)


def test_distillation_of_each_averages_to_distillation() -> None:
    student, teacher = scores(seed=1), scores(seed=2)
    mean = distillation_of_each(student, teacher, 2.0).mean()
    assert mean.item() == pytest.approx(knowledge_distillation(student, teacher, 2.0).item(), abs=1e-12)


@pytest.mark.parametrize("rank", [0, 3, 6])
def test_a_linear_student_attends_where_the_images_can_see_and_retains_elsewhere(rank: int) -> None:
    """Converged: `w + Q delta`, Q the projector on the space of the images."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(30, rank, dtype=torch.float64, generator=generator) @ torch.eye(6, dtype=torch.float64)[:rank]
    start, delta = (torch.randn(6, 4, dtype=torch.float64, generator=generator) for _ in range(2))
    start, delta = start - start.mean(1, keepdim=True), delta - delta.mean(1, keepdim=True)
    student = start.clone().requires_grad_()
    for _ in range(400):
        loss = distillation_of_each(images @ student, images @ (start + delta), 1e4).mean()
        (gradient,) = torch.autograd.grad(loss, student)
        student = (student - 2.0 * gradient).detach().requires_grad_()
    seen = torch.diag((torch.arange(6) < rank).double())
    torch.testing.assert_close(student.detach(), start + seen @ delta, rtol=0, atol=1e-3)


def test_the_common_part_is_a_mean_over_classes_whatever_their_number_of_images() -> None:
    change = scores(seed=1)
    labels = torch.tensor([0] * 30 + [1] * 6 + [3] * 4)
    slow = torch.stack([change[labels == answer].mean(0) for answer in (0, 1, 3)]).mean(0)
    torch.testing.assert_close(common(change, labels), slow)
    shifted = change + torch.tensor([5.0, -1.0, 0.0, 2.0])
    torch.testing.assert_close(shifted - common(shifted, labels), change - common(change, labels))


def test_strengths_meet_the_conditions_of_the_optimum() -> None:
    core, moves = (
        scores(seed=1),
        [scores(seed=n) + F.one_hot(LABELS, 4) * gain for n, gain in ((2, 1.0), (3, 0.3), (4, -1.0))],
    )
    strengths = fit_strengths(core, moves, LABELS, limit=50.0)
    factor = calibration(core, LABELS)
    variables = strengths.clone().requires_grad_()
    total = factor * core + torch.einsum("k,knc->nc", variables, factor * torch.stack(moves))
    (slopes,) = torch.autograd.grad(F.cross_entropy(total, LABELS), variables)
    assert strengths[0] > 0
    assert strengths[2] == 0
    for strength, slope in zip(strengths.tolist(), slopes.tolist(), strict=True):
        assert slope > -1e-4 if strength == 0 else abs(slope) < 1e-4


def test_a_strength_has_its_limit() -> None:
    core = torch.zeros(40, 4, dtype=torch.float64)
    sure = 0.01 * F.one_hot(LABELS, 4).double()
    assert fit_strengths(core + scores(seed=1) * 0.1, [sure], LABELS).item() == 1.0


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, 1e300])
def test_a_broken_change_gets_no_strength(broken: float) -> None:
    move = scores(seed=2)
    move[3, 1] = broken
    assert fit_strengths(scores(seed=1), [move], LABELS).item() == 0.0


def test_overconfidence_is_not_mistaken_for_ignorance() -> None:
    right = 2.0 * F.one_hot(LABELS, 4).double() + scores(seed=1)
    assert calibrated_loss(50 * right, LABELS) == pytest.approx(calibrated_loss(right, LABELS), abs=1e-6)
    assert calibration(50 * right, LABELS) == pytest.approx(calibration(right, LABELS) / 50, rel=1e-3)
    assert calibrated_loss(-right, LABELS) == pytest.approx(math.log(4))
    assert calibration(-right, LABELS) == 0.0


def test_listening_weights() -> None:
    core = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    target = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
    labels = torch.tensor([0, 1, 1])
    weights = {name: rule(target, core, labels) for name, rule in LISTENING.items()}
    assert weights["everywhere"].tolist() == [1, 1, 1]
    assert weights["where_better"].tolist() == [0, 1, 1]
    assert weights["where_right"].tolist() == [1, 0, 1]
    torch.testing.assert_close(weights["by_confidence"], torch.tensor([1.0, -1.0, 3.0]).sigmoid())
