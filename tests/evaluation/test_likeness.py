"""Centred kernel alignment."""

import pytest
import torch
from torch import Tensor

from stillhouse.evaluation.likeness import cka, layer_likeness
from tests.evaluation.test_recognition import drawn


def slow_hsic(first: Tensor, second: Tensor) -> float:
    """The unbiased estimate as its definition has it, without centring first."""
    count = len(first)
    one, two = ((rows @ rows.mT).fill_diagonal_(0) for rows in (first, second))
    ones = torch.ones(count, 1, dtype=torch.float64)
    square = (ones.mT @ one @ ones) * (ones.mT @ two @ ones) / ((count - 1) * (count - 2))
    cross = ones.mT @ one @ two @ ones * 2 / (count - 2)
    return ((torch.trace(one @ two) + square - cross) / (count * (count - 3))).item()


def test_agrees_with_the_definition() -> None:
    first = drawn(60, 7)
    second = torch.cat([first[:, :3], drawn(60, 4, seed=1)], 1)
    expected = slow_hsic(first, second) / (slow_hsic(first, first) * slow_hsic(second, second)) ** 0.5
    assert cka(first, second) == pytest.approx(expected, rel=1e-9)
    halves = [(slow_hsic(a[:30], b[:30]) + slow_hsic(a[30:], b[30:])) for a, b in
              ((first, second), (first, first), (second, second))]  # fmt: skip
    assert cka(first, second, batch_size=30) == pytest.approx(halves[0] / (halves[1] * halves[2]) ** 0.5, rel=1e-9)


def test_rotation_scale_and_shift_do_not_matter() -> None:
    rows = drawn(200, 10)
    assert cka(rows, -3 * rows @ torch.linalg.qr(drawn(10, 10, seed=1))[0] + 5) == pytest.approx(1.0)


def test_strangers_are_unlike_however_wide_they_are() -> None:
    found = [cka(drawn(200, 30, seed=n), drawn(200, 2000, seed=n + 50)) for n in range(8)]
    assert abs(sum(found) / 8) < 0.03


def test_a_matrix_of_layers_is_symmetric_with_ones() -> None:
    layers = [drawn(50, 4), drawn(50, 6, seed=1), drawn(50, 4) ** 3]
    found = layer_likeness(layers)
    torch.testing.assert_close(found, found.mT)
    torch.testing.assert_close(found.diagonal(), torch.ones(3, dtype=torch.float64))
    assert found[0, 2] > found[0, 1]
