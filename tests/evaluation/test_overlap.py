"""Test images that were learnt by heart are counted."""

import torch

from stillhouse.evaluation.overlap import count_shared
from tests.evaluation.made_up import make_store


def test_the_same_pixels_are_found_whatever_their_place() -> None:
    store = make_store([0, 1, 0, 1, 0, 1])
    everything = torch.arange(6)
    assert count_shared(store, everything, store, torch.tensor([4, 1])) == 2
    assert count_shared(store, torch.tensor([0, 1]), store, torch.tensor([1, 2, 3])) == 1
    assert count_shared(store, torch.tensor([0, 1, 2]), store, torch.tensor([3, 4, 5])) == 0
