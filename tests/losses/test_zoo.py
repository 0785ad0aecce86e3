"""Every loss between features, relations or scores beside a slow loop; what leaves it alone; where it is 0."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stillhouse.losses.logits import knowledge_distillation, soft_cross_entropy
from stillhouse.losses.maps import attention_transfer, hint, neuron_selectivity
from stillhouse.losses.relations import (
    correlation_congruence,
    probabilistic_transfer,
    relational_angle,
    relational_distance,
    similarity_preserving,
    variational_information,
)

Loss = Callable[[Tensor, Tensor], Tensor]
B = 4


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def turn(dim: int) -> Tensor:
    rotation: Tensor = torch.linalg.qr(draw(dim, dim, seed=9))[0]
    return rotation


def slow_similarity_preserving(s: Tensor, t: Tensor) -> Tensor:
    total = s.new_zeros(())
    for i in range(B):
        own = torch.stack([(s[i] * s[j]).sum() for j in range(B)])
        wanted = torch.stack([(t[i] * t[j]).sum() for j in range(B)])
        total = total + (own / own.square().sum().sqrt() - wanted / wanted.square().sum().sqrt()).square().sum()
    return total / B**2


def huber(x: Tensor) -> Tensor:
    return 0.5 * x * x if abs(float(x.detach())) < 1 else x.abs() - 0.5


def slow_relational_distance(s: Tensor, t: Tensor) -> Tensor:
    pairs = [(i, j) for i in range(B) for j in range(B) if i != j]
    own = {p: (s[p[0]] - s[p[1]]).square().sum().sqrt() for p in pairs}
    wanted = {p: (t[p[0]] - t[p[1]]).square().sum().sqrt() for p in pairs}
    own_mean, wanted_mean = (torch.stack(list(d.values())).mean() for d in (own, wanted))
    return torch.stack([huber(own[p] / own_mean - wanted[p] / wanted_mean) for p in pairs]).sum() / B**2


def slow_relational_angle(s: Tensor, t: Tensor) -> Tensor:
    def cosine(rows: Tensor, i: int, j: int, k: int) -> Tensor:
        if i in (j, k):
            return rows.new_zeros(())
        a, b = rows[j] - rows[i], rows[k] - rows[i]
        return (a * b).sum() / (a.square().sum().sqrt() * b.square().sum().sqrt())

    triples = [(i, j, k) for i in range(B) for j in range(B) for k in range(B)]
    return torch.stack([huber(cosine(s, *place) - cosine(t, *place)) for place in triples]).mean()


def slow_probabilistic_transfer(s: Tensor, t: Tensor) -> Tensor:
    def share(rows: Tensor, i: int) -> Tensor:
        cosines = [(rows[i] * r).sum() / (rows[i].square().sum() * r.square().sum()).sqrt() for r in rows]
        up = (torch.stack(cosines) + 1) / 2
        return up / up.sum()

    total = s.new_zeros(())
    for i in range(B):
        q, p = share(s, i), share(t, i)
        total = total + (p * ((p + 1e-7) / (q + 1e-7)).log()).sum()
    return total / B**2


def slow_correlation_congruence(s: Tensor, t: Tensor) -> Tensor:
    terms = [((s[i] - t[i]).abs() * (s[i + 1] - t[i + 1]).abs()).sum() for i in range(B - 1)]
    return torch.stack(terms).mean()


def slow_hint(s: Tensor, t: Tensor) -> Tensor:
    return sum(((a - b) ** 2 for a, b in zip(s.flatten(), t.flatten(), strict=True)), s.new_zeros(())) / s.numel()


def slow_attention_transfer(s: Tensor, t: Tensor) -> Tensor:
    total = s.new_zeros(())
    for own, wanted in zip(s, t, strict=True):
        a, b = own.square().mean(0), wanted.square().mean(0)
        total = total + (a / a.square().sum().sqrt() - b / b.square().sum().sqrt()).square().mean()
    return total / B


def slow_neuron_selectivity(s: Tensor, t: Tensor) -> Tensor:
    def kernel(one: Tensor, other: Tensor) -> Tensor:
        pairs = [(a * b).sum() ** 2 / (a.square().sum() * b.square().sum()) for a in one for b in other]
        return torch.stack(pairs).mean()

    terms = [kernel(t[i], t[i]) + kernel(s[i], s[i]) - 2 * kernel(s[i], t[i]) for i in range(B)]
    return torch.stack(terms).mean()


VECTORS: list[tuple[Loss, Loss]] = [
    (similarity_preserving, slow_similarity_preserving),
    (relational_distance, slow_relational_distance),
    (relational_angle, slow_relational_angle),
    (probabilistic_transfer, slow_probabilistic_transfer),
]
MAPS: list[tuple[Loss, Loss]] = [
    (attention_transfer, slow_attention_transfer),
    (neuron_selectivity, slow_neuron_selectivity),
]
EQUAL_SHAPES: list[tuple[Loss, Loss]] = [(correlation_congruence, slow_correlation_congruence), (hint, slow_hint)]
CASES = [
    *((*losses, (B, 5), (B, 7)) for losses in VECTORS),
    *((*losses, (B, 3, 4, 4), (B, 5, 4, 4)) for losses in MAPS),
    *((*losses, (B, 6), (B, 6)) for losses in EQUAL_SHAPES),
]


@pytest.mark.parametrize(("loss", "slow", "own", "other"), CASES)
def test_equals_a_slow_loop_in_value_and_gradient(
    loss: Loss, slow: Loss, own: tuple[int, ...], other: tuple[int, ...]
) -> None:
    student, teacher = draw(*own).requires_grad_(), draw(*other, seed=1).requires_grad_()
    fast, expected = loss(student, teacher), slow(student, teacher.detach())
    assert fast.item() == pytest.approx(expected.item(), abs=1e-10)
    assert fast.item() > 0
    (a,), (b,) = torch.autograd.grad(fast, student), torch.autograd.grad(expected, student)
    torch.testing.assert_close(a, b, atol=1e-9, rtol=0)
    (into_teacher,) = torch.autograd.grad(loss(student, teacher) + 0 * teacher.sum(), teacher)
    assert not into_teacher.any()


@pytest.mark.parametrize(("loss", "slow", "own", "other"), CASES)
def test_a_student_like_its_teacher_has_nothing_to_learn(
    loss: Loss, slow: Loss, own: tuple[int, ...], other: tuple[int, ...]
) -> None:
    same = draw(*own).requires_grad_()
    value = loss(same, same)
    assert value.item() == pytest.approx(0, abs=1e-12)
    (slope,) = torch.autograd.grad(value, same)
    assert slope.abs().max() < 1e-7  # PKT adds 1e-7 inside its logarithm


@pytest.mark.parametrize(("loss", "slow"), VECTORS)
def test_relations_survive_a_rotation(loss: Loss, slow: Loss) -> None:
    student, teacher = draw(B, 5), draw(B, 7, seed=1)
    assert loss(student @ turn(5), teacher @ turn(7)).item() == pytest.approx(loss(student, teacher).item())


@pytest.mark.parametrize("loss", [relational_distance, relational_angle, similarity_preserving, attention_transfer])
def test_the_scale_of_either_side_does_not_matter(loss: Loss) -> None:
    shape = (B, 3, 2, 2) if loss is attention_transfer else (B, 12)
    student, teacher = draw(*shape), draw(*shape, seed=1)
    assert loss(3 * student, 0.2 * teacher).item() == pytest.approx(loss(student, teacher).item())


@pytest.mark.parametrize("loss", [attention_transfer, neuron_selectivity])
def test_the_order_of_channels_does_not_matter_and_larger_maps_are_averaged_down(loss: Loss) -> None:
    student, teacher = draw(B, 4, 4, 4), draw(B, 4, 4, 4, seed=1)
    shuffled = student[:, [2, 0, 3, 1]]
    assert loss(shuffled, teacher).item() == pytest.approx(loss(student, teacher).item())
    small = torch.nn.functional.avg_pool2d(teacher, 2)
    assert loss(student, small).item() == pytest.approx(loss(torch.nn.functional.avg_pool2d(student, 2), small).item())


@pytest.mark.parametrize("loss", [relational_distance, relational_angle])
def test_images_that_coincide_give_a_finite_gradient(loss: Loss) -> None:
    student = torch.zeros(B, 5, dtype=torch.float64, requires_grad=True)
    loss(student, draw(B, 5)).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_congruence_is_zero_when_neighbours_err_in_different_places() -> None:
    error = torch.eye(B, 6, dtype=torch.float64)
    teacher = draw(B, 6)
    assert correlation_congruence(teacher + error, teacher).item() == 0
    assert correlation_congruence(teacher + 1, teacher).item() == pytest.approx(6)


def test_variational_information_of_an_exact_prediction_is_half_the_log_variance() -> None:
    target = draw(B, 3)
    assert variational_information(target, target, torch.tensor(5.0)).item() == pytest.approx(0.80471896)
    mean, variance = draw(B, 3, seed=1).requires_grad_(), torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    normal = torch.distributions.Normal(mean, variance.sqrt())
    expected = -normal.log_prob(target).mean() - 0.5 * math.log(2 * math.pi)
    found = variational_information(mean, target, variance)
    assert found.item() == pytest.approx(expected.item())
    (a,), (b,) = torch.autograd.grad(found, mean), torch.autograd.grad(expected, mean)
    torch.testing.assert_close(a, b)


def test_soft_cross_entropy_is_the_teachers_entropy_at_rest_and_its_slope_the_difference() -> None:
    student, teacher = draw(B, 5).requires_grad_(), draw(B, 5, seed=1)
    share = (teacher / 0.5).softmax(1)
    entropy = -(share * share.log()).sum(1).mean().item()
    assert soft_cross_entropy(teacher, teacher, 0.5).item() == pytest.approx(entropy)
    (slope,) = torch.autograd.grad(soft_cross_entropy(student, teacher, 0.5), student)
    torch.testing.assert_close(slope, ((student / 0.5).softmax(1) - share).detach() / (0.5 * B))
    scaled = soft_cross_entropy(3 * student, 3 * teacher, 1.5).item()
    assert scaled == pytest.approx(soft_cross_entropy(student, teacher, 0.5).item())
    hard = torch.nn.functional.cross_entropy(student / 1e-4, teacher.argmax(1))
    assert soft_cross_entropy(student, teacher, 1e-4).item() == pytest.approx(hard.item())


def test_knowledge_distillation_is_zero_at_rest_and_keeps_its_gradient_when_hot() -> None:
    student, teacher = draw(B, 5).requires_grad_(), draw(B, 5, seed=1)
    assert knowledge_distillation(teacher, teacher, 4.0).item() == pytest.approx(0, abs=1e-12)
    slow = torch.zeros((), dtype=torch.float64)
    for s, t in zip(student, teacher, strict=True):
        p, q = (t / 4).softmax(0), (s / 4).softmax(0)
        slow = slow + 16 / B * (p * (p / q).log()).sum()
    assert knowledge_distillation(student, teacher, 4.0).item() == pytest.approx(slow.item())
    (hot,) = torch.autograd.grad(knowledge_distillation(student, teacher, 1e4), student)
    centred = [(rows - rows.mean(1, keepdim=True)).detach() for rows in (student, teacher)]
    torch.testing.assert_close(hot, (centred[0] - centred[1]) / (5 * B), atol=1e-4, rtol=1e-3)
