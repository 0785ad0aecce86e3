"""Oracles of BYOL's distance."""

import pytest
import torch
from torch.nn import functional as F

from stillhouse.losses.regression import cosine_distance


def test_equal_orthogonal_and_opposite_directions() -> None:
    rows = torch.eye(4)
    assert 2 * cosine_distance(rows, 3 * rows).item() == pytest.approx(0, abs=1e-6)
    assert 2 * cosine_distance(rows, rows.roll(1, 0)).item() == pytest.approx(4)
    assert 2 * cosine_distance(rows, -rows).item() == pytest.approx(8)


def test_is_the_squared_distance_of_unit_vectors_and_ignores_scale() -> None:
    prediction, target = torch.randn(5, 8, dtype=torch.float64), torch.randn(5, 8, dtype=torch.float64)
    expected = (F.normalize(prediction, dim=1) - F.normalize(target, dim=1)).square().sum(1).mean()
    torch.testing.assert_close(cosine_distance(prediction, target), expected)
    torch.testing.assert_close(cosine_distance(0.1 * prediction, 7 * target), expected)


def test_gradient_is_orthogonal_to_the_prediction() -> None:
    prediction = torch.randn(5, 8, dtype=torch.float64, requires_grad=True)
    cosine_distance(prediction, torch.randn(5, 8, dtype=torch.float64)).backward()
    assert prediction.grad is not None
    assert (prediction.grad * prediction).sum(1).abs().max() < 1e-12
