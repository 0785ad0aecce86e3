"""Looked-up random numbers: uniform, independent of their neighbours, and a function of their address alone."""

import math

import pytest
import torch
from torch import Tensor

from stillhouse.data.random import permutation, uniform

SLOTS = torch.arange(8)
WORD = 1 << 64


def splitmix(word: int) -> int:
    """The finalizer of splitmix64 on Python's integers."""
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) % WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) % WORD
    return word ^ (word >> 31)


def slow_uniform(seed: int, epoch: int, index: int, slot: int) -> float:
    """The same number by one chain of Python integers."""
    golden, word = 0x9E3779B97F4A7C15, 0
    for part in (1, seed, epoch):
        word = splitmix((word + (part + 1) * golden) % WORD)
    word = splitmix((word + index * golden) % WORD)
    word = splitmix((word + slot * golden) % WORD)
    return float((word >> 11) / (1 << 53))


def correlation(first: Tensor, second: Tensor) -> float:
    return float(torch.corrcoef(torch.stack((first.flatten(), second.flatten())))[0, 1])


@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (1, 7), (-3, 2), (2**63 + 5, 100_000)])
def test_equals_a_chain_of_python_integers(seed: int, epoch: int) -> None:
    index = torch.tensor([0, 1, 49_999, 2**40])
    fast = uniform(seed, epoch, index, SLOTS)
    slow = [[slow_uniform(seed, epoch, i, s) for s in SLOTS.tolist()] for i in index.tolist()]
    assert fast.tolist() == slow


def test_is_uniform() -> None:
    numbers = uniform(0, 0, torch.arange(20_000), SLOTS).flatten()
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts = torch.histc(numbers, 100, 0, 1)
    expected = len(numbers) / 100
    statistic = float(((counts - expected) ** 2 / expected).sum())
    assert abs(statistic - 99) < 4 * math.sqrt(2 * 99)
    for power in (1, 2, 3, 4):
        deviation = math.sqrt((1 / (2 * power + 1) - 1 / (power + 1) ** 2) / len(numbers))
        assert abs(float((numbers**power).mean()) - 1 / (power + 1)) < 4 * deviation


def test_neighbours_are_independent() -> None:
    index = torch.arange(20_000)
    here = uniform(3, 5, index, SLOTS)
    others = {
        "index": uniform(3, 5, index + 1, SLOTS),
        "slot": uniform(3, 5, index, SLOTS + 1),
        "epoch": uniform(3, 6, index, SLOTS),
        "seed": uniform(4, 5, index, SLOTS),
        "seed and epoch exchanged": uniform(5, 3, index, SLOTS),
        "index and slot shifted": uniform(3, 5, index + 1, SLOTS - 1 + 8),
    }
    for name, there in others.items():
        assert abs(correlation(here, there)) < 4 / math.sqrt(here.numel()), name
        pairs = torch.stack((here.flatten(), there.flatten()), 1)
        cells = torch.bincount((pairs * 8).long() @ torch.tensor([8, 1]), minlength=64).double()
        expected = len(pairs) / 64
        assert abs(float(((cells - expected) ** 2 / expected).sum()) - 63) < 4.5 * math.sqrt(2 * 63), name


def test_depends_on_its_address_alone() -> None:
    index = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    everything = uniform(1, 2, torch.arange(1000), torch.arange(40))
    assert torch.equal(uniform(1, 2, index, torch.arange(40)), everything[index])
    assert torch.equal(uniform(1, 2, index[3:4], torch.tensor([17])), everything[index[3:4], 17:18])


def test_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    uniform(0, 0, torch.arange(3), SLOTS)
    permutation(0, 0, 3)
    assert torch.equal(state, torch.get_rng_state())


def test_permutation_has_every_position_once() -> None:
    order = permutation(0, 0, 1000)
    assert torch.equal(order.sort().values, torch.arange(1000))
    assert torch.equal(order, permutation(0, 0, 1000))
    assert permutation(0, 0, 0).tolist() == []
    assert permutation(0, 0, 1).tolist() == [0]


def test_permutations_of_epochs_and_seeds_are_unrelated() -> None:
    size = 10_000
    first = permutation(0, 0, size).double()
    for other in (permutation(0, 1, size), permutation(1, 0, size), torch.arange(size)):
        assert abs(correlation(first, other.double())) < 4 / math.sqrt(size)


def test_permutations_of_four_are_equally_frequent() -> None:
    counts: dict[tuple[int, ...], int] = {}
    for epoch in range(4800):
        order = tuple(permutation(9, epoch, 4).tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 24
    statistic = sum((count - 200) ** 2 / 200 for count in counts.values())
    assert abs(statistic - 23) < 4 * math.sqrt(2 * 23)
