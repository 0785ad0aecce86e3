"""CRD: closed forms of its loss, its banks, its normalizers, and its teachers."""

import math

import pytest
import torch
from torch import Tensor

from stillhouse.data.candidates import uniform_candidates
from stillhouse.errors import SettingsError
from stillhouse.losses.noise_contrastive import noise_contrastive, partner_scores
from stillhouse.methods.crd import CRD, CRDConfig
from stillhouse.methods.partners import PartnersConfig, PartnerSearch
from stillhouse.networks.build import EncoderConfig, build_encoder
from stillhouse.networks.memory import MemoryBank
from stillhouse.networks.teacher import FrozenTeacher
from tests.methods.conftest import MakeMethod, random_batch


def unit(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(*shape, dtype=torch.float64, generator=generator), dim=-1)


def made(make_method: MakeMethod) -> CRD:
    method = make_method("crd")
    assert isinstance(method, CRD)
    return method


def search_of(method: CRD, teacher: int = 0) -> PartnerSearch:
    search = method.partners.searches[teacher]
    assert isinstance(search, PartnerSearch)
    return search


def normalizers_of(method: CRD) -> Tensor:
    return search_of(method).normalizers


def with_teachers(*seeds: int, **settings: object) -> CRD:
    """On one student, with a teacher for every seed; all of different weights."""
    teachers = [FrozenTeacher(build_encoder(EncoderConfig(name="resnet10", image_size=16), seed)) for seed in seeds]
    config = CRDConfig(num_images=64, num_negatives=16, output_dim=8, **settings)  # type: ignore[arg-type]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CRD(config, build_encoder(EncoderConfig(name="vit_nano", image_size=16)), teachers)


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
    loaded = make_method("crd", seed=3)
    assert isinstance(loaded, CRD)
    loaded.load_state_dict(method.state_dict())
    loaded(random_batch(views=1, seed=4), 0.5)
    assert torch.equal(normalizers_of(loaded), normalizers)


def test_normalizers_may_follow_the_scores() -> None:
    config = PartnersConfig(num_images=20, num_negatives=6, output_dim=8, normalizer_momentum=0.9)
    search, index, expected = PartnerSearch(config, 5, 5).double(), torch.arange(4), 0.0
    for step in range(3):
        own, wanted = unit(4, 5, seed=step), unit(4, 5, seed=step + 9)
        candidates = uniform_candidates(index, 20, 6, step)
        anchors = torch.nn.functional.normalize(search.student_projector(own), dim=1)
        goal = 20 * partner_scores(anchors, search.teacher_bank.rows, candidates, 0.07).mean().item()
        expected = 0.9 * expected + 0.1 * goal if step else goal
        search(own, wanted, index, candidates)
        search.advance()
        assert search.normalizers[0].item() == pytest.approx(expected, rel=1e-9)


def test_swapping_both_sides_swaps_the_terms() -> None:
    config = PartnersConfig(num_images=20, num_negatives=6, output_dim=8)
    search, swapped = (PartnerSearch(config, 5, 5).double() for _ in range(2))
    own = search.state_dict()
    other = {"student": "teacher", "teacher": "student"}
    pairs = {name: name.split("_", 1) for name in own if name != "normalizers"}
    swapped.load_state_dict(
        {"normalizers": own["normalizers"], **{f"{other[s]}_{rest}": own[name] for name, (s, rest) in pairs.items()}}
    )
    first, second, index = unit(4, 5), unit(4, 5, seed=1), torch.arange(4)
    candidates = uniform_candidates(index, 20, 6, 0)
    (a, b), (c, d) = search(first, second, index, candidates), swapped(second, first, index, candidates)
    assert (a.item(), b.item()) == (d.item(), c.item())
    assert a.item() != b.item()


def test_turning_anchor_and_bank_together_changes_no_score() -> None:
    rotation = torch.linalg.qr(unit(8, 8, seed=2))[0]
    anchor, bank, index = unit(4, 8), unit(30, 8, seed=1), torch.arange(36).view(4, 9) % 30
    scores = partner_scores(anchor, bank, index, 0.07)
    torch.testing.assert_close(partner_scores(anchor @ rotation, bank @ rotation, index, 0.07), scores)


def test_the_loss_is_not_negative_and_knows_no_unit_when_the_normalizer_follows() -> None:
    for seed in range(5):
        scores = (6 * torch.randn(4, 17, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))).exp()
        loss = noise_contrastive(scores, scores.mean() * 50, 50)
        assert loss >= 0
        scaled = 123.0 * scores
        torch.testing.assert_close(noise_contrastive(scaled, scaled.mean() * 50, 50), loss)


def test_a_partner_that_coincides_at_the_start() -> None:
    mean, negatives, images = math.exp(1 / (2 * 128 * 0.07**2)), 16384, 5
    scores = torch.full((1, negatives + 1), 1e-300, dtype=torch.float64)  # negatives that cost nothing
    scores[0, 0] = math.exp(1 / 0.07)
    loss = noise_contrastive(scores, torch.tensor(mean * images, dtype=torch.float64), images).item()
    assert loss == pytest.approx(math.log(1 + negatives * mean * math.exp(-1 / 0.07)), abs=2e-6)
    assert loss == pytest.approx(0.0225, abs=5e-5)


def test_several_teachers_have_layers_and_banks_of_their_own_and_their_weights_count() -> None:
    batch = random_batch(views=1)
    both, weighed = with_teachers(1, 2)(batch, 0.5), with_teachers(1, 2, teacher_weights=(3.0, 0.5))(batch, 0.5)
    method = with_teachers(1, 2)
    first, second = search_of(method), search_of(method, 1)
    assert not torch.equal(first.teacher_bank.rows, second.teacher_bank.rows)
    index = torch.arange(8)
    candidates = uniform_candidates(index, 64, 16, 0)
    student = method.student(batch.views[0])
    losses = [
        search(student, teacher(batch.views[0]), index, candidates)
        for search, teacher in zip((first, second), method.teachers, strict=True)
    ]
    for side, name in enumerate(("student_anchor", "teacher_anchor")):
        one, other = losses[0][side].item(), losses[1][side].item()
        assert one != other
        assert both[name].item() == pytest.approx(one + other, rel=1e-6)
        assert weighed[name].item() == pytest.approx(3 * one + 0.5 * other, rel=1e-6)
    before = second.student_bank.rows.clone()
    method.after_step(0.5)
    assert not torch.equal(second.student_bank.rows, before)
    assert not any(name.startswith("teachers") for name in method.state_dict())


def test_another_number_of_weights_than_of_teachers_is_told() -> None:
    with pytest.raises(SettingsError, match=r"method\.teacher_weights: 1 weights for 2 teachers"):
        with_teachers(1, 2, teacher_weights=(1.0,))


def test_both_projectors_learn_and_the_teacher_does_not(make_method: MakeMethod) -> None:
    method = made(make_method)
    terms = method(random_batch(views=1), 0.5)
    terms["teacher_anchor"].backward(retain_graph=True)
    assert all(parameter.grad is None for parameter in method.student.parameters())
    assert search_of(method).teacher_projector.weight.grad is not None
    terms["student_anchor"].backward()
    assert all(p.grad is not None for p in method.student.parameters() if p.requires_grad)
    (teacher,) = method.teachers
    assert isinstance(teacher, FrozenTeacher)
    assert all(parameter.grad is None for parameter in teacher.encoder.parameters())


def test_without_a_number_of_images_it_says_so(make_method: MakeMethod) -> None:
    with pytest.raises(SettingsError, match=r"method\.num_images"):
        make_method("crd", num_images=0)
