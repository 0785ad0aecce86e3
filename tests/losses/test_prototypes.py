"""Closed forms, a slow loop and invariants of the loss over prototypes."""

import math

import pytest
import torch
from torch import Tensor

from stillhouse.losses.prototypes import self_distillation


def scores(views: int, images: int = 3, prototypes: int = 5, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randn(views, images, prototypes, dtype=torch.float64, generator=generator).unbind())


def slow(students: list[Tensor], teachers: list[Tensor], center: Tensor, cold: float, sharp: float) -> Tensor:
    """Pair by pair, image by image; views of the same number are the same view."""
    total, pairs = torch.zeros((), dtype=torch.float64), 0
    for t, teacher in enumerate(teachers):
        for s, student in enumerate(students):
            if s == t:
                continue
            pairs += 1
            for wanted, seen in zip(teacher, student, strict=True):
                p = ((wanted - center) / sharp).softmax(0)
                total = total - (p * (seen / cold).softmax(0).log()).sum() / len(teacher)
    assert pairs == len(teachers) * (len(students) - 1)
    return total / pairs


@pytest.mark.parametrize("views", [2, 10])
def test_equals_a_slow_loop_over_pairs_in_value_and_gradient(views: int) -> None:
    students = [view.requires_grad_() for view in scores(views)]
    teachers, center = scores(2, seed=1), scores(1, 1, seed=2)[0][0]
    fast = self_distillation(students, teachers, center, 0.1, 0.07)
    expected = slow(students, teachers, center, 0.1, 0.07)
    assert fast.item() == pytest.approx(expected.item(), abs=1e-10)
    for one, other in zip(torch.autograd.grad(fast, students), torch.autograd.grad(expected, students), strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=0)


def test_equal_scores_give_log_k_and_agreement_gives_the_entropy() -> None:
    flat = [torch.zeros(3, 64, dtype=torch.float64)] * 4
    assert self_distillation(flat, scores(2, 3, 64), torch.zeros(64), 0.1, 0.04).item() == pytest.approx(math.log(64))
    same = scores(1) * 3
    share = (same[0] / 0.2).softmax(1)
    entropy = -(share * share.log()).sum(1).mean().item()
    assert self_distillation(same, same[:2], torch.zeros(5), 0.2, 0.2).item() == pytest.approx(entropy)


def test_constants_do_not_matter_and_the_center_is_subtracted() -> None:
    students, teachers, center = scores(4), scores(2, seed=1), scores(1, 1, seed=2)[0][0]
    loss = self_distillation(students, teachers, center, 0.1, 0.04).item()
    moved = self_distillation([s + 3 for s in students], [t - 2 for t in teachers], center, 0.1, 0.04)
    assert moved.item() == pytest.approx(loss)
    shift = scores(1, 1, seed=3)[0][0]
    assert self_distillation(students, [t + shift for t in teachers], center + shift, 0.1, 0.04).item() == (
        pytest.approx(loss)
    )
    assert abs(self_distillation(students, teachers, center + shift, 0.1, 0.04).item() - loss) > 1e-3


def test_no_gradient_reaches_the_teacher() -> None:
    students, teachers = [s.requires_grad_() for s in scores(2)], [t.requires_grad_() for t in scores(2, seed=1)]
    self_distillation(students, teachers, torch.zeros(5), 0.1, 0.04).backward()
    assert all(t.grad is None for t in teachers)
    assert all(s.grad is not None for s in students)
