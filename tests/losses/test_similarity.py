"""Closed forms, slow loops and invariants of the similarity losses."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stillhouse.losses import strips
from stillhouse.losses.contrastive import queue_nce
from stillhouse.losses.regression import cosine_distance
from stillhouse.losses.similarity import (
    cosines_to_others,
    relational_divergence,
    seed_cross_entropy,
    similarity_divergence,
)


def rows(count: int, dim: int = 6, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, dim, dtype=torch.float64, generator=generator), dim=1)


def at(*degrees: float) -> Tensor:
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def slow_seed(student: Tensor, teacher: Tensor, queue: Tensor, student_t: float, teacher_t: float) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for s, t in zip(student, teacher, strict=True):
        s = s / s.norm()
        candidates = [t, *queue]
        seen = [torch.dot(s, c) / student_t for c in candidates]
        wanted = [math.exp(float(torch.dot(t, c)) / teacher_t) for c in candidates]
        normalizer = torch.stack(seen).exp().sum().log()
        for a, b in zip(seen, wanted, strict=True):
            total = total - b / sum(wanted) * (a - normalizer)
    return total / len(student)


@pytest.mark.parametrize(("teacher_temperature", "expected"), [(0.07, 0.14890942), (0.01, 0.14890828)])
def test_seed_on_a_hand_made_fixture(teacher_temperature: float, expected: float) -> None:
    loss = seed_cross_entropy(at(30), at(0), at(90, 180), 0.2, teacher_temperature)
    assert loss.item() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("chunk", [2, 128])
def test_seed_equals_a_slow_loop_in_value_and_gradient(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "CHUNK_SIZE", chunk)
    student, slow = (3 * rows(5, seed=1)).requires_grad_(), (3 * rows(5, seed=1)).requires_grad_()
    teacher, queue = rows(5, seed=2), rows(7, seed=3)
    fast = seed_cross_entropy(student, 2 * teacher, queue, 0.2, 0.1)
    expected = slow_seed(slow, teacher, queue, 0.2, 0.1)
    fast.backward()
    expected.backward()
    assert fast.item() == pytest.approx(expected.item(), abs=1e-10)
    torch.testing.assert_close(student.grad, slow.grad, atol=1e-10, rtol=0)


def test_seed_with_a_cold_teacher_is_info_nce_with_its_vector_as_the_key() -> None:
    student, teacher, queue = rows(5, seed=1), rows(5, seed=2), rows(7, seed=3)
    cold = seed_cross_entropy(student, teacher, queue, 0.2, 1e-4)
    assert cold.item() == pytest.approx(queue_nce(student, teacher, queue, 0.2).item(), abs=1e-9)


def test_seed_when_all_rows_coincide() -> None:
    one = rows(1)
    loss = seed_cross_entropy(rows(4, seed=5), one.expand(4, -1), one.expand(9, -1), 0.2, 0.01)
    assert loss.item() == pytest.approx(math.log(10))


def test_a_student_equal_to_its_teacher_rests_and_leaves_the_teachers_entropy() -> None:
    teacher, queue = rows(4, seed=2), rows(7, seed=3)
    student = teacher.clone().requires_grad_()
    loss = seed_cross_entropy(student, teacher, queue, 0.3, 0.3)
    loss.backward()
    share = (torch.cat([torch.ones(4, 1, dtype=torch.float64), teacher @ queue.T], dim=1) / 0.3).softmax(1)
    assert loss.item() == pytest.approx(-(share * share.log()).sum(1).mean().item())
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-12


def test_seed_reaches_only_the_student_and_does_not_mind_rotation_or_order() -> None:
    student, teacher, queue = (rows(4, seed=n).requires_grad_() for n in (1, 2, 3))
    loss = seed_cross_entropy(student, teacher, queue, 0.2, 0.05)
    loss.backward()
    assert teacher.grad is None
    assert queue.grad is None
    turn = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
    turned = seed_cross_entropy(student @ turn, teacher @ turn, queue.flip(0) @ turn, 0.2, 0.05)
    assert turned.item() == pytest.approx(loss.item(), abs=1e-12)
    alone = seed_cross_entropy(student @ turn, teacher, queue, 0.2, 0.05)
    assert abs(alone.item() - loss.item()) > 1e-3


def test_divergence_of_equal_neighbourhoods_is_zero_and_of_others_a_slow_loop() -> None:
    student, teacher = rows(5, seed=1).requires_grad_(), rows(5, 4, seed=2)
    near, far = rows(7, seed=3), rows(7, 4, seed=4)
    assert similarity_divergence(teacher, teacher, far, far, 0.04).item() == pytest.approx(0, abs=1e-12)
    loss = similarity_divergence(student, teacher, near, far, 0.2)
    slow = torch.zeros((), dtype=torch.float64)
    for s, t in zip(student, teacher, strict=True):
        q = torch.stack([torch.dot(s, n) / 0.2 for n in near]).softmax(0)
        p = torch.stack([torch.dot(t, f) / 0.2 for f in far]).softmax(0)
        slow = slow + sum((a * (a / b).log() for a, b in zip(p, q, strict=True)), torch.zeros(()))
    assert loss.item() == pytest.approx(slow.item() / 5, abs=1e-10)
    (fast,) = torch.autograd.grad(loss, student)
    (expected,) = torch.autograd.grad(slow / 5, student)
    torch.testing.assert_close(fast, expected - (expected * student).sum(1, keepdim=True) * student, atol=1e-10, rtol=0)


def test_divergence_does_not_mind_the_order_of_both_queues() -> None:
    student, teacher, near, far = rows(5, seed=1), rows(5, 4, seed=2), rows(7, seed=3), rows(7, 4, seed=4)
    loss = similarity_divergence(student, teacher, near, far, 0.1)
    assert similarity_divergence(student, teacher, near.flip(0), far.flip(0), 0.1).item() == pytest.approx(loss.item())
    assert abs(similarity_divergence(student, teacher, near.flip(0), far, 0.1).item() - loss.item()) > 1e-3


def test_queue_nce_sees_its_own_key_and_the_queue_only() -> None:
    query, key, queue = rows(3, seed=1), rows(3, seed=2), rows(4, seed=3)
    one = queue_nce(query[:1], key[:1], queue, 0.2)
    logits = torch.cat([query[0] @ key[0][:, None], query[0] @ queue.T]) / 0.2
    assert one.item() == pytest.approx((logits.logsumexp(0) - logits[0]).item())
    each = [queue_nce(query[i : i + 1], key[i : i + 1], queue, 0.2).item() for i in range(3)]
    assert queue_nce(query, key, queue, 0.2).item() == pytest.approx(sum(each) / 3)
    same = rows(1)
    assert queue_nce(same, same, same.expand(6, -1), 0.2).item() == pytest.approx(math.log(7))


def slow_relations(student: Tensor, teacher: Tensor, student_t: float, teacher_t: float) -> float:
    total = 0.0
    for i in range(len(student)):
        others = [j for j in range(len(student)) if j != i]
        seen = [math.exp(float(F.cosine_similarity(student[i], student[j], 0)) / student_t) for j in others]
        wanted = [math.exp(float(F.cosine_similarity(teacher[i], teacher[j], 0)) / teacher_t) for j in others]
        for a, b in zip(seen, wanted, strict=True):
            total += b / sum(wanted) * math.log((b / sum(wanted)) / (a / sum(seen)))
    return total / len(student)


def test_relations_equal_a_slow_loop() -> None:
    student, teacher = 3 * rows(6, seed=1), rows(6, 4, seed=2)
    loss = relational_divergence(student, teacher, 0.2, 0.1)
    assert loss.item() == pytest.approx(slow_relations(student, teacher, 0.2, 0.1), abs=1e-12)


def test_relations_do_not_see_rotation_or_scale_but_directions_do() -> None:
    student, turn = rows(6, seed=1), torch.linalg.qr(rows(6, seed=3)).Q
    turned = 5 * student @ turn
    assert relational_divergence(student, turned, 0.1, 0.1).item() == pytest.approx(0, abs=1e-12)
    teacher = rows(6, seed=2)
    expected = relational_divergence(student, teacher, 0.1, 0.1).item()
    assert relational_divergence(student, 2 * teacher @ turn, 0.1, 0.1).item() == pytest.approx(expected, abs=1e-12)
    assert cosine_distance(student, turned).item() > 0.1


def test_orthogonal_vectors_see_all_others_alike() -> None:
    one, two = torch.eye(5, dtype=torch.float64), torch.linalg.qr(rows(5, 5, seed=1)).Q
    assert relational_divergence(one, two, 0.1, 0.1).item() == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close((cosines_to_others(one) / 0.1).softmax(1), torch.full((5, 4), 0.25, dtype=torch.float64))
