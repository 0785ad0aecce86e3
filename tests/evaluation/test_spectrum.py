"""Spectra: closed forms, invariances, and what noise does."""

import math

import pytest
import torch
from torch import Tensor

from stillhouse.evaluation.spectrum import alpha_req, lidar, rankme
from tests.evaluation.test_recognition import drawn


def test_rankme_of_orthonormal_rows_and_of_one_direction() -> None:
    assert rankme(torch.eye(32)) == pytest.approx(32, rel=1e-3)
    assert rankme(drawn(100, 1) * torch.ones(16)) == pytest.approx(1, abs=1e-4)


def test_rankme_minds_neither_scale_nor_rotation_but_a_common_mean() -> None:
    rows = drawn(640, 64)
    turned = 7 * rows @ torch.linalg.qr(drawn(64, 64, seed=1))[0]
    assert rankme(turned) == pytest.approx(rankme(rows), rel=1e-9)
    assert rankme(drawn(64, 64)) == pytest.approx(51, abs=1.5)  # so few images cannot fill all directions
    many = drawn(20_000, 64)
    assert rankme(many + 5) == pytest.approx(24.6, abs=0.3)
    assert rankme(many + 5, center=True) == pytest.approx(64, abs=0.1)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_alpha_req_finds_the_exponent_of_a_power_law(alpha: float) -> None:
    found = alpha_req(drawn(20_000, 256) * torch.arange(1, 257, dtype=torch.float64) ** (-alpha / 2))
    assert found.alpha == pytest.approx(alpha, abs=0.02)
    assert found.fit > 0.99


def test_alpha_req_of_few_directions_is_not_a_number() -> None:
    assert math.isnan(alpha_req(drawn(50, 8)).alpha)
    assert math.isnan(alpha_req(torch.ones(50, 200)).alpha)


def signal(noise: float, views: int) -> Tensor:
    """Five directions tell 1,000 images apart, and every view adds noise in 32."""
    means = torch.cat([drawn(1000, 5), torch.zeros(1000, 27, dtype=torch.float64)], 1)
    return means[:, None] + noise * drawn(1000, views, 32, seed=1)


def test_lidar_counts_directions_that_tell_images_apart() -> None:
    assert lidar(signal(1 / 20, 50)) == pytest.approx(5.0, abs=0.05)
    assert lidar(signal(1 / 2, 50)) == pytest.approx(5.9, abs=0.15)
    assert lidar(signal(1 / 2, 5)) == pytest.approx(11.8, abs=0.5)
    assert lidar(drawn(1000, 50, 32)) == pytest.approx(31.5, abs=0.3)  # noise alone is nearly all of them


def test_lidar_without_padding_minds_no_invertible_map() -> None:
    views = signal(0.5, 6)
    mapped = views @ (torch.eye(32) + 0.3 * drawn(32, 32, seed=2))
    assert lidar(mapped, within=0.0) == pytest.approx(lidar(views, within=0.0), rel=1e-6)
