"""Whom an image is compared with: what was promised about classes, replacement, evenness, steps and processes."""

import math

import pytest
import torch
from torch import Tensor

from stillhouse.data import candidates
from stillhouse.data.candidates import Positive, class_candidates, class_groups, uniform_candidates
from stillhouse.data.labels import Labels

INDEX = torch.tensor([3, 0, 17, 8, 9])


def groups(unknown: int = 0) -> Tensor:
    """Four classes of ten images; the last `unknown` images have none."""
    numbers = torch.arange(40) % 4
    numbers[40 - unknown :] = -1
    return class_groups(Labels(numbers, ("a", "b", "c", "d")))


def drawn(count: int, step: int = 0, positive: Positive = "exact", unknown: int = 0, index: Tensor = INDEX) -> Tensor:
    return class_candidates(index, groups(unknown), count, step, positive)


def chi_square(counts: Tensor) -> float:
    """How far the counts are from even, in deviations of the chi-square distribution."""
    expected, freedom = counts.sum() / len(counts), len(counts) - 1
    return float((((counts - expected).square() / expected).sum() - freedom) / math.sqrt(2 * freedom))


@pytest.mark.parametrize("unknown", [0, 32])
def test_exact_is_the_image_itself_and_no_negative_shares_its_class_or_comes_twice(unknown: int) -> None:
    for step in range(20):
        found, known = drawn(25, step, unknown=unknown), groups(unknown)
        assert torch.equal(found[:, 0], INDEX)
        for own, others in zip(INDEX.tolist(), found[:, 1:].tolist(), strict=True):
            assert all(known[other] != known[own] for other in others)
            assert len(set(others)) == 25


def test_every_image_of_another_class_is_as_likely_and_at_every_place() -> None:
    steps, index = 400, torch.tensor([2, 6])  # of one class
    negatives = torch.stack([drawn(6, step, index=index)[:, 1:] for step in range(steps)])
    others = (groups() != 2).nonzero()[:, 0]
    for row in range(2):
        counts = torch.bincount(negatives[:, row].flatten(), minlength=40)
        assert counts[groups() == 2].sum() == 0
        assert abs(chi_square(counts[others].double())) < 4
        assert abs(chi_square(torch.bincount(negatives[:, row, 0], minlength=40)[others].double())) < 4
    assert (negatives[:, 0] != negatives[:, 1]).any(1).float().mean() > 0.9


@pytest.mark.parametrize("count", [30, 31, 75, 1000])
def test_where_the_others_are_too_few_each_comes_up_as_often_give_or_take_one(count: int) -> None:
    for row, own in zip(drawn(count)[:, 1:], INDEX, strict=True):
        counts = torch.bincount(row, minlength=40)[groups() != groups()[own]]
        assert counts.sum() == count
        assert counts.max() - counts.min() <= (count % 30 > 0)


def test_relax_takes_any_image_of_the_class_as_the_positive() -> None:
    index = torch.arange(40)
    positives = torch.stack([drawn(3, step, "relax", index=index)[:, 0] for step in range(200)])
    assert torch.equal(groups()[positives], groups().expand(200, 40))
    seen = torch.bincount(positives[:, 5], minlength=40)[groups() == 1]
    assert abs(chi_square(seen.double())) < 4
    assert torch.equal(drawn(3, 7, "relax")[:, 1:], drawn(3, 7, "exact")[:, 1:])


def test_an_image_of_unknown_class_is_alone_and_compared_with_all_others() -> None:
    found = drawn(39, positive="relax", unknown=8, index=torch.tensor([39]))
    assert found[0, 0] == 39
    assert sorted(found[0, 1:].tolist()) == list(range(39))


@pytest.mark.parametrize("form", ["uniform", "classes"])
def test_the_step_decides_and_the_number_of_processes_does_not(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(index: Tensor, step: int) -> Tensor:
        if form == "uniform":
            return uniform_candidates(index, 40, 9, step)
        return class_candidates(index, groups(), 9, step, "relax")

    index = torch.arange(8)
    whole = draw(index, 5)
    assert torch.equal(draw(index, 5), whole)
    assert not torch.equal(draw(index, 6)[:, 1:], whole[:, 1:])
    monkeypatch.setattr(candidates, "world_size", lambda: 2)
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(candidates, "position", lambda rows, rank=rank: rank * len(rows))
        parts.append(draw(index.chunk(2)[rank], 5))
    assert torch.equal(torch.cat(parts), whole)


def test_uniform_candidates_are_the_image_itself_and_even_draws_of_all() -> None:
    found = torch.stack([uniform_candidates(INDEX, 40, 16, step) for step in range(60)])
    assert torch.equal(found[:, :, 0], INDEX.expand(60, -1))
    assert abs(chi_square(torch.bincount(found[:, :, 1:].flatten(), minlength=40).double())) < 4
