"""What DoGo's learners give each other, and what they do not."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stillhouse.data.stream import Batch
from stillhouse.losses.contrastive import nt_xent
from stillhouse.losses.regression import negative_cosine
from stillhouse.losses.similarity import cross_view_divergence
from stillhouse.methods.dogo import DoGo
from tests.methods.conftest import MakeMethod, random_batch

OBJECTIVES = ["simclr", "simsiam", "byol"]


def at(*degrees: float) -> Tensor:
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def made(make_method: MakeMethod, **settings: Any) -> DoGo:
    method = make_method("dogo", **settings)
    assert isinstance(method, DoGo)
    return method


ONE = at(0, 90, 180), at(10, 100, 170)
TWO = at(0, 60, 120), at(20, 60, 100)


@pytest.mark.parametrize(
    ("student", "target", "temperature", "expected"),
    [
        (ONE, TWO, 0.1, 0.28858482),
        (TWO, ONE, 0.1, 0.06507022),
        (ONE, TWO, 0.5, 0.15538190),
        (TWO, ONE, 0.5, 0.12712250),
    ],
)
def test_divergence_on_a_hand_made_fixture(
    student: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor], temperature: float, expected: float
) -> None:
    assert cross_view_divergence(*student, *target, temperature).item() == pytest.approx(expected, abs=1e-7)


def test_contrast_on_the_same_fixture() -> None:
    assert nt_xent(*ONE, 0.5).item() == pytest.approx(0.39186810, abs=1e-7)
    assert nt_xent(*TWO, 0.5).item() == pytest.approx(0.93062012, abs=1e-7)


def test_divergence_equals_a_slow_loop_and_its_slope_is_p_minus_q() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (F.normalize(torch.randn(4, 5, dtype=torch.float64, generator=generator), dim=1) for _ in range(2))
    c, d = (F.normalize(torch.randn(4, 3, dtype=torch.float64, generator=generator), dim=1) for _ in range(2))
    a.requires_grad_()
    loss = cross_view_divergence(a, b, c, d, 0.2)
    slow, slope = 0.0, torch.zeros(4, 4, dtype=torch.float64)
    for i in range(4):
        seen = [math.exp(float(torch.dot(a[i].detach(), row)) / 0.2) for row in b]
        wanted = [math.exp(float(torch.dot(c[i], row)) / 0.2) for row in d]
        for j in range(4):
            p, q = seen[j] / sum(seen), wanted[j] / sum(wanted)
            slow += q * math.log(q / p) / 4
            slope[i, j] = (p - q) / (0.2 * 4)
    assert loss.item() == pytest.approx(slow, abs=1e-12)
    (found,) = torch.autograd.grad(loss, a)
    into_rows = slope @ b
    expected = into_rows - (into_rows * a).sum(1, keepdim=True) * a  # rows are normalized inside
    torch.testing.assert_close(found, expected.detach(), atol=1e-12, rtol=0)


def test_divergence_of_equal_similarities_is_zero_and_scale_and_rotation_do_not_matter() -> None:
    generator = torch.Generator().manual_seed(1)
    a, b, c, d = (torch.randn(5, 4, dtype=torch.float64, generator=generator) for _ in range(4))
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=generator))[0]
    assert cross_view_divergence(a, b, 3 * a @ turn, b @ turn, 0.1).item() == pytest.approx(0, abs=1e-12)
    loss = cross_view_divergence(a, b, c, d, 0.1).item()
    order = torch.randperm(5, generator=generator)
    assert cross_view_divergence(a[order], b[order], c[order], d[order], 0.1).item() == pytest.approx(loss)
    assert abs(cross_view_divergence(a, b, c[order], d[order], 0.1).item() - loss) > 1e-3


def test_simsiam_of_equal_directions() -> None:
    rows = torch.randn(4, 3)
    assert negative_cosine(2 * rows, rows).item() == pytest.approx(-1)
    assert negative_cosine(-rows, rows).item() == pytest.approx(1)


@pytest.mark.parametrize("own", OBJECTIVES)
@pytest.mark.parametrize("other", OBJECTIVES)
def test_no_gradient_crosses_between_the_learners(own: str, other: str, make_method: MakeMethod) -> None:
    for terms, still in ((("own", "own_from_peer"), "other."), (("peer", "peer_from_own"), "own.")):
        method = made(make_method, objective=own, peer_objective=other)
        found = method(random_batch(views=4), 0.5)
        torch.stack([found[term] for term in terms]).sum().backward()
        for name, parameter in method.named_parameters():
            if parameter.requires_grad:
                assert name.startswith(still) == (parameter.grad is None), name


def test_without_distillation_each_learner_is_simclr_alone(make_method: MakeMethod) -> None:
    method = made(make_method, distillation_weight=0.0, peer_distillation_weight=0.0)
    batch = random_batch(views=4)
    terms = method(batch, 0.5)
    torch.stack(list(terms.values())).sum().backward()
    found = {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}
    method.zero_grad()
    alone = made(make_method, distillation_weight=0.0, peer_distillation_weight=0.0)
    for learner, views in ((alone.own, batch.views[:2]), (alone.other, batch.views[2:])):
        first, second = (learner.branch(view) for view in views)
        nt_xent(first, second, 0.5).backward()
    for name, parameter in alone.named_parameters():
        assert (name in found) == (parameter.grad is not None)
        assert parameter.grad is None or torch.equal(found[name], parameter.grad), name


def test_the_peer_learns_from_what_simsiam_aims_at_but_simclr_from_what_it_optimizes(make_method: MakeMethod) -> None:
    batch = random_batch(views=4)
    for own, changes in (("simsiam", False), ("simclr", True)):
        method = made(make_method, objective=own, peer_objective="simsiam")
        before = method(batch, 0.5)["own_from_peer"].item()
        with torch.no_grad():
            for parameter in method.other.predictor.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
        after = method(batch, 0.5)["own_from_peer"].item()
        assert (abs(after - before) > 1e-6) == changes


@pytest.mark.parametrize(("schedule", "share"), [("constant", 1.0), ("ramp_up", 0.25), ("ramp_down", 0.75)])
def test_the_weight_follows_its_schedule(schedule: str, share: float, make_method: MakeMethod) -> None:
    method = made(make_method, weight_schedule=schedule, distillation_weight=2.0)
    batch = random_batch(views=4)
    reference = made(make_method, distillation_weight=1.0)(batch, 0.25)["own_from_peer"]
    assert method(batch, 0.25)["own_from_peer"].item() == pytest.approx(2 * share * reference.item())


def test_a_pair_is_shown_to_both(make_method: MakeMethod) -> None:
    method = made(make_method)
    pair = random_batch(views=2)
    doubled = Batch(pair.views * 2, pair.index)
    assert {name: term.item() for name, term in method(pair, 0.5).items()} == {
        name: term.item() for name, term in method(doubled, 0.5).items()
    }


def test_byol_objective_moves_its_teacher_after_the_step(make_method: MakeMethod) -> None:
    method = made(make_method, objective="byol", momentum=0.5)
    teacher = method.own.teacher.module
    with torch.no_grad():
        for parameter in method.own.branch.parameters():
            parameter.add_(1.0)
    before = [parameter.clone() for parameter in teacher.parameters()]
    method.after_step(0.1)
    for old, new, student in zip(before, teacher.parameters(), method.own.branch.parameters(), strict=True):
        torch.testing.assert_close(new, (old + student) / 2)
