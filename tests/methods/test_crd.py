"""CRD: closed forms of its loss, its banks, its negatives and its normalizers."""

import math

import pytest
import torch
from torch import Tensor

from stillhouse.errors import SettingsError
from stillhouse.losses.noise_contrastive import noise_contrastive, partner_scores
from stillhouse.methods.crd import CRD
from stillhouse.networks.memory import MemoryBank
from tests.methods.conftest import MakeMethod, random_batch


def unit(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(*shape, dtype=torch.float64, generator=generator), dim=-1)


def made(make_method: MakeMethod) -> CRD:
    method = make_method("crd")
    assert isinstance(method, CRD)
    return method


@pytest.mark.parametrize(
    ("negatives", "expected"),
    [(16384, 10.70409104), (4096, 9.31788823), (255, 6.54322177), (16, 3.80320729), (1, 1.38629436)],
)
def test_equal_scores(negatives: int, expected: float) -> None:
    scores, images = (
        torch.full((3, negatives + 1), 2.5, dtype=torch.float64),
        5,
    )  # few: the loss adds 1e-7 to shares of 1 / N
    loss = noise_contrastive(scores, scores.mean() * images, images).item()
    assert loss == pytest.approx(expected, rel=2e-6)
    assert loss == pytest.approx(math.log(negatives + 1) + negatives * math.log((negatives + 1) / negatives), rel=2e-6)


def test_a_random_start_lies_where_it_should() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        bank = MemoryBank(5_000, 128, 0.5)
    assert bank.rows.square().sum(1).mean().item() == pytest.approx(1.0, abs=0.01)
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(5_000, (128, 4097), generator=generator)
    scores = partner_scores(unit(128, 128), bank.rows, index, 0.07)
    normalizer = scores.mean() * 50_000
    assert normalizer.item() == pytest.approx(50_000 * math.exp(1 / (2 * 128 * 0.07**2)), rel=0.15)
    assert noise_contrastive(scores, normalizer, 50_000).item() == pytest.approx(10.0, abs=0.6)


def test_equals_a_slow_loop_in_value_and_gradient() -> None:
    anchor, bank, images = unit(3, 4).requires_grad_(), unit(9, 4, seed=1).requires_grad_(), 9
    index = torch.tensor([[0, 5, 5, 2], [1, 0, 8, 1], [2, 3, 4, 7]])
    normalizer = torch.tensor(11.0, dtype=torch.float64)
    fast = noise_contrastive(partner_scores(anchor, bank, index, 0.5), normalizer, images)
    slow = torch.zeros((), dtype=torch.float64)
    for i in range(3):
        for k in range(4):
            share = (torch.dot(anchor[i], bank[index[i, k]].detach()) / 0.5).exp() / normalizer
            noise = 3 / images
            slow = slow - ((share if k == 0 else noise) / (share + noise + 1e-7)).log() / 3
    assert fast.item() == pytest.approx(slow.item(), abs=1e-12)
    (a,), (b,) = torch.autograd.grad(fast, anchor, retain_graph=True), torch.autograd.grad(slow, anchor)
    torch.testing.assert_close(a, b, atol=1e-12, rtol=0)
    fast.backward()
    assert bank.grad is None


@pytest.mark.parametrize(("momentum", "expected"), [(1.0, "old"), (0.0, "new"), (0.5, "between")])
def test_a_bank_row_follows_its_image_after_the_step(momentum: float, expected: str) -> None:
    bank = MemoryBank(5, 3, momentum)
    bank.rows.copy_(unit(5, 3))
    before, new, index = bank.rows.clone(), unit(2, 3, seed=1).float(), torch.tensor([3, 1])
    bank.add(index, new)
    assert torch.equal(bank.rows, before)
    bank.advance()
    middle = before[index] + new
    wanted = {"old": before[index], "new": new, "between": middle / middle.norm(dim=1, keepdim=True)}[expected]
    torch.testing.assert_close(bank.rows[index], wanted)
    assert torch.equal(bank.rows[[0, 2, 4]], before[[0, 2, 4]])


def test_normalizers_are_set_once_and_old_rows_are_used(make_method: MakeMethod) -> None:
    method = made(make_method)
    first = method(random_batch(views=1), 0.5)
    normalizers = normalizers_of(method).clone()
    assert normalizers.all()
    again = method(random_batch(views=1), 0.5)
    assert [term.item() for term in first.values()] == [term.item() for term in again.values()]
    method.after_step(0.5)
    method(random_batch(views=1, seed=2), 0.5)
    assert torch.equal(normalizers_of(method), normalizers)


def test_candidates_are_the_image_itself_and_uniform_others_and_change_every_step(make_method: MakeMethod) -> None:
    method = made(make_method)
    index, counts = torch.arange(8), torch.zeros(64)
    drawn = []
    for _ in range(60):
        found = method._candidates(index)
        assert torch.equal(found[:, 0], index)
        counts += torch.bincount(found[:, 1:].flatten(), minlength=64)
        drawn.append(found)
        method.after_step(0.5)
    assert not torch.equal(drawn[0], drawn[1])
    expected = 60 * 8 * 16 / 64
    chi_square = ((counts - expected).square() / expected).sum().item()
    assert chi_square < 63 + 4 * math.sqrt(2 * 63)


def test_both_projectors_learn_and_the_teacher_does_not(make_method: MakeMethod) -> None:
    method = made(make_method)
    terms = method(random_batch(views=1), 0.5)
    terms["teacher_anchor"].backward(retain_graph=True)
    assert all(parameter.grad is None for parameter in method.student.parameters())
    assert method.teacher_projector.weight.grad is not None
    terms["student_anchor"].backward()
    assert all(p.grad is not None for p in method.student.parameters() if p.requires_grad)
    assert all(parameter.grad is None for parameter in method.teacher.encoder.parameters())


def test_without_a_number_of_images_it_says_so(make_method: MakeMethod) -> None:
    with pytest.raises(SettingsError, match=r"method\.num_images"):
        make_method("crd", num_images=0)
