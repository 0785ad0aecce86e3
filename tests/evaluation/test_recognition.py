"""Knowing an image again without labels."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stillhouse.evaluation.recognition import recognition


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_views_that_agree_are_recognised_and_strangers_by_chance() -> None:
    vectors = drawn(400, 16)
    assert recognition(vectors, vectors).tolist() == pytest.approx([1.0] * 400)
    strangers = torch.stack([recognition(drawn(400, 16, seed=n), drawn(400, 16, seed=n + 99)).mean() for n in range(5)])
    assert abs(strangers.mean()) < 0.02


def test_vectors_that_are_all_alike_score_by_chance() -> None:
    same = torch.ones(50, 8)
    assert recognition(same, same).tolist() == pytest.approx([0.0] * 50, abs=1e-12)


def test_a_common_vector_scale_and_rotation_do_not_matter() -> None:
    first, second = drawn(60, 8), drawn(60, 8) + drawn(60, 8, seed=1)
    turn = torch.linalg.qr(drawn(8, 8, seed=2))[0]
    moved = recognition(3.0 * first @ turn + 7.0, 3.0 * second @ turn + 7.0)
    torch.testing.assert_close(moved, recognition(first, second))


def test_agrees_with_the_loop_over_images() -> None:
    first, second = drawn(30, 6), drawn(30, 6) + drawn(30, 6, seed=1)
    center = torch.cat([first, second]).mean(0)
    one, two = F.normalize(first - center, dim=1), F.normalize(second - center, dim=1)
    chance = sum(math.log(place + 1) for place in range(30)) / 30
    for image, score in enumerate(recognition(first, second).tolist()):
        found = []
        for mine, theirs in ((one, two), (two, one)):
            own = mine[image] @ theirs[image]
            place = sum(bool(mine[image] @ other > own) for number, other in enumerate(theirs) if number != image)
            found.append(1 - math.log(1 + place) / chance)
        assert score == pytest.approx(sum(found) / 2)
