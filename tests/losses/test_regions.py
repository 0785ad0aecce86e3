"""A slow loop, closed forms and invariants of region matching."""

import math

import pytest
import torch
from torch import Tensor

from stillhouse.losses.prototypes import self_distillation
from stillhouse.losses.regions import Regions, match, region_matching

CENTER = torch.linspace(-1, 1, 5, dtype=torch.float64)


def made(counts: tuple[int, ...], seed: int = 0, images: int = 3, prototypes: int = 5, width: int = 4) -> list[Regions]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    return [Regions(draw(images, count, width), draw(images, count, prototypes)) for count in counts]


def slow(students: list[Regions], teachers: list[Regions], center: Tensor, cold: float, sharp: float) -> Tensor:
    """Pair by pair, image by image, region by region."""
    total, pairs = torch.zeros((), dtype=torch.float64), 0
    for t, teacher in enumerate(teachers):
        for s, student in enumerate(students):
            if s == t:
                continue
            pairs += 1
            images, regions = student.scores.shape[:2]
            for b in range(images):
                for i in range(regions):
                    cosines = [
                        float(torch.cosine_similarity(student.features[b, i], row, dim=0))
                        for row in teacher.features[b]
                    ]
                    wanted = teacher.scores[b, cosines.index(max(cosines))]
                    p = ((wanted - center) / sharp).softmax(0)
                    q = (student.scores[b, i] / cold).softmax(0)
                    total = total - (p * q.log()).sum() / (images * regions)
    assert pairs == len(teachers) * (len(students) - 1)
    return total / pairs


@pytest.mark.parametrize("counts", [(4, 4), (9, 9, 4, 1)])
def test_equals_a_slow_loop_in_value_and_gradient(counts: tuple[int, ...]) -> None:
    students, teachers = made(counts), made(counts[:2], seed=1)
    for view in students:
        view.scores.requires_grad_()
    fast = region_matching(students, teachers, CENTER, 0.1, 0.07)
    expected = slow(students, teachers, CENTER, 0.1, 0.07)
    assert fast.item() == pytest.approx(expected.item(), abs=1e-10)
    scores = [view.scores for view in students]
    for one, other in zip(torch.autograd.grad(fast, scores), torch.autograd.grad(expected, scores), strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=0)


def test_equal_scores_give_log_k() -> None:
    flat = [Regions(view.features, torch.zeros(3, 4, 64, dtype=torch.float64)) for view in made((4, 4, 4))]
    teachers = made((4, 4), seed=1, prototypes=64)
    zero = torch.zeros(64, dtype=torch.float64)
    assert region_matching(flat, teachers, zero, 0.1, 0.04).item() == pytest.approx(math.log(64))
    sure = [Regions(view.features, 1e3 * torch.eye(64, dtype=torch.float64)[:4].expand(3, 4, 64)) for view in teachers]
    assert region_matching(flat, sure, zero, 0.1, 0.04).item() == pytest.approx(math.log(64))


def test_a_view_never_meets_itself() -> None:
    """Only views that the other teacher view may match get a gradient from one teacher view."""
    students = made((4, 4, 2))
    for view in students:
        view.scores.requires_grad_()
    region_matching(students, made((4,), seed=1), CENTER, 0.1, 0.04).backward()
    assert students[0].scores.grad is None
    assert all(view.scores.grad is not None and view.scores.grad.any() for view in students[1:])


def shuffled(view: Regions) -> Regions:
    order = torch.randperm(view.scores.shape[1], generator=torch.Generator().manual_seed(2))
    return Regions(view.features[:, order], view.scores[:, order])


def test_the_order_of_regions_does_not_matter() -> None:
    students, teachers = made((9, 9, 4)), made((9, 9), seed=1)
    loss = region_matching(students, teachers, CENTER, 0.1, 0.04).item()
    other = [shuffled(view) for view in teachers]
    assert region_matching(students, other, CENTER, 0.1, 0.04).item() == pytest.approx(loss)
    own = [shuffled(view) for view in students]
    assert region_matching(own, teachers, CENTER, 0.1, 0.04).item() == pytest.approx(loss)


def test_lengths_of_features_do_not_matter() -> None:
    students, teachers = made((9, 9, 4)), made((9, 9), seed=1)
    loss = region_matching(students, teachers, CENTER, 0.1, 0.04).item()
    stretch = torch.linspace(0.1, 9.0, 9, dtype=torch.float64)[:, None]
    longer = [Regions(view.features * stretch, view.scores) for view in teachers]
    assert torch.equal(
        match(students[0].features, longer[0].features), match(students[0].features, teachers[0].features)
    )
    assert region_matching(students, longer, CENTER, 0.1, 0.04).item() == pytest.approx(loss)


def test_equal_features_match_place_by_place() -> None:
    students, teachers = made((9, 9)), made((9, 9), seed=1)
    teachers = [
        Regions(student.features, teacher.scores) for student, teacher in zip(students[::-1], teachers, strict=True)
    ]
    assert torch.equal(match(students[1].features, teachers[0].features), torch.arange(9).expand(3, 9))
    flat = [view.scores.flatten(0, 1) for view in students]
    placed = self_distillation(flat, [view.scores.flatten(0, 1) for view in teachers], CENTER, 0.1, 0.04)
    assert region_matching(students, teachers, CENTER, 0.1, 0.04).item() == pytest.approx(placed.item())


def test_one_region_each_is_the_loss_of_views() -> None:
    students, teachers = made((1, 1, 1, 1)), made((1, 1), seed=1)
    views = self_distillation(
        [view.scores[:, 0] for view in students], [view.scores[:, 0] for view in teachers], CENTER, 0.1, 0.04
    )
    assert region_matching(students, teachers, CENTER, 0.1, 0.04).item() == pytest.approx(views.item())


def test_a_small_view_finds_its_places_in_a_large_one() -> None:
    best = match(made((9,))[0].features, made((49,), seed=1)[0].features)
    assert best.shape == (3, 9)
    assert 0 <= int(best.min()) <= int(best.max()) < 49
    same = torch.ones(1, 9, 4)
    assert not match(same, same).any()


def test_constants_do_not_matter_and_the_center_is_subtracted() -> None:
    students, teachers = made((4, 4, 2)), made((4, 4), seed=1)
    loss = region_matching(students, teachers, CENTER, 0.1, 0.04).item()
    moved = [Regions(view.features, view.scores + 3) for view in students]
    lower = [Regions(view.features, view.scores - 2) for view in teachers]
    assert region_matching(moved, lower, CENTER, 0.1, 0.04).item() == pytest.approx(loss)
    shift = torch.linspace(0, 2, 5, dtype=torch.float64)
    shifted = [Regions(view.features, view.scores + shift) for view in teachers]
    assert region_matching(students, shifted, CENTER + shift, 0.1, 0.04).item() == pytest.approx(loss)
    assert abs(region_matching(students, teachers, CENTER + shift, 0.1, 0.04).item() - loss) > 1e-3


def test_gradients_flow_through_the_students_scores_alone() -> None:
    students, teachers = made((4, 4)), made((4, 4), seed=1)
    for view in (*students, *teachers):
        view.features.requires_grad_()
        view.scores.requires_grad_()
    region_matching(students, teachers, CENTER, 0.1, 0.04).backward()
    assert all(view.scores.grad is not None for view in students)
    assert all(view.features.grad is None for view in (*students, *teachers))
    assert all(view.scores.grad is None for view in teachers)


def test_agreement_gives_the_entropy() -> None:
    same = made((4,)) * 2
    share = (same[0].scores / 0.2).softmax(2)
    entropy = -(share * share.log()).sum(2).mean().item()
    zero = torch.zeros(5, dtype=torch.float64)
    assert region_matching(same, same, zero, 0.2, 0.2).item() == pytest.approx(entropy)


def test_bfloat16_is_matched_and_scored_in_float32() -> None:
    students, teachers = made((9, 9)), made((9, 9), seed=1)
    half = [Regions(view.features.bfloat16(), view.scores.bfloat16()) for view in students]
    whole = [Regions(view.features.float(), view.scores.float()) for view in half]
    wanted = [Regions(view.features.float(), view.scores.float()) for view in teachers]
    with torch.autocast("cpu", torch.bfloat16):
        found = region_matching(half, wanted, CENTER.float(), 0.1, 0.04)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(region_matching(whole, wanted, CENTER.float(), 0.1, 0.04).item(), rel=1e-6)
