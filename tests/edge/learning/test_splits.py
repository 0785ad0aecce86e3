"""Every image has one owner, and skew is what was asked for."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stillhouse.edge.learning.splits import dirichlet, few_classes, identical
from stillhouse.errors import SettingsError

LABELS = torch.arange(1000) % 10


def counts(hands: list[Tensor]) -> Tensor:
    return torch.stack([torch.bincount(LABELS[hand], minlength=10) for hand in hands])


@pytest.mark.parametrize(
    "hands",
    [
        identical(LABELS, 7, 0),
        dirichlet(LABELS, 7, 0.1, 0),
        dirichlet(LABELS, 40, 0.01, 1),
        few_classes(LABELS, 10, 2, 0),
    ],
)
def test_every_image_has_one_owner_and_nobody_is_left_out(hands: list[Tensor]) -> None:
    assert torch.cat(hands).sort().values.tolist() == list(range(1000))
    assert all(len(hand) and bool((hand.diff() > 0).all()) for hand in hands)


def test_a_seed_decides() -> None:
    splits: list[Callable[[int], list[Tensor]]] = [
        lambda seed: identical(LABELS, 5, seed),
        lambda seed: dirichlet(LABELS, 5, 1.0, seed),
    ]
    for split in splits:
        assert all(map(torch.equal, split(3), split(3)))
        assert not all(len(a) == len(b) and torch.equal(a, b) for a, b in zip(split(3), split(4), strict=True))


def test_alpha_says_how_uneven_classes_are_dealt() -> None:
    def largest_share(alpha: float) -> float:
        held = torch.stack([counts(dirichlet(LABELS, 10, alpha, seed)) for seed in range(5)]).double()
        return (held.max(dim=1).values / held.sum(dim=1)).mean().item()

    shares = [largest_share(alpha) for alpha in (100.0, 1.0, 0.1)]
    assert shares == sorted(shares)
    assert shares[0] < 0.2
    assert shares[2] > 0.6


def test_few_classes_are_dealt_evenly() -> None:
    held = counts(few_classes(LABELS, 10, 2, 3))
    assert (held > 0).sum(1).tolist() == [2] * 10
    assert (held > 0).sum(0).tolist() == [2] * 10
    assert held[held > 0].tolist() == [50] * 20
    assert counts(few_classes(LABELS, 3, 4, 0)).sum(0).tolist() == [100] * 10


def test_impossible_splits_are_refused() -> None:
    with pytest.raises(SettingsError, match="choose 2 to 10"):
        few_classes(LABELS, 5, 1, 0)
    with pytest.raises(SettingsError, match="choose 1 to 1000"):
        identical(LABELS, 0, 0)
    with pytest.raises(SettingsError, match="above 0"):
        dirichlet(LABELS, 5, 0.0, 0)
