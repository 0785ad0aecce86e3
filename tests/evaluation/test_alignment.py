"""Alignment and uniformity: closed forms, a loop over pairs, views of stored images."""

import math

import pytest
import torch

from stillhouse.data.views import PAIR
from stillhouse.evaluation.alignment import Alignment, align, measure, pairs_of, uniformity
from stillhouse.evaluation.features import extract
from tests.evaluation.made_up import make_encoder, make_store


def rows(count: int, dim: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_identical_views_meet_and_orthonormal_images_are_at_two() -> None:
    found = align(torch.eye(7), torch.eye(7))
    assert found.positive == 0.0
    assert found.negative == pytest.approx(2.0)
    assert found.uniformity == pytest.approx(-4.0)
    assert found.ratio == math.inf


def test_uniformity_of_equal_rows_is_zero_and_of_the_sphere_its_closed_form() -> None:
    assert uniformity(torch.ones(5, 3)).item() == pytest.approx(0.0, abs=1e-6)
    assert uniformity(rows(3000, 128)).item() == pytest.approx(-3.9375, abs=3e-3)
    assert uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])).item() == pytest.approx(-8.0)


@pytest.mark.parametrize("normalize", [True, False])
def test_agrees_with_the_loop_over_pairs(normalize: bool) -> None:
    first, second = 3 * rows(8, 4), 2 * rows(8, 4, 1)
    found = align(first, second, normalize=normalize)
    if normalize:
        first, second = first / first.norm(dim=1, keepdim=True), second / second.norm(dim=1, keepdim=True)
    positive = [(first[i] - second[i]).square().sum().item() for i in range(8)]
    negative = [(first[i] - first[j]).square().sum().item() for i in range(8) for j in range(i)]
    assert found.positive == pytest.approx(sum(positive) / len(positive))
    assert found.negative == pytest.approx(sum(negative) / len(negative))
    assert found.ratio == pytest.approx(found.negative / found.positive)


def test_unit_vectors_give_two_minus_twice_the_cosine() -> None:
    first, second = rows(20, 5), rows(20, 5, 1)
    cosine = torch.cosine_similarity(first, second).mean().item()
    assert align(first, second).positive == pytest.approx(2 - 2 * cosine)


def test_ratio_of_nothing_is_not_a_number() -> None:
    assert math.isnan(Alignment(0.0, 0.0, 0.0).ratio)


def test_every_block_is_measured_on_seeded_views() -> None:
    store, encoder = make_store([0, 1, 2] * 5, size=16), make_encoder(16)
    found = [measure(encoder, pairs_of(store, PAIR, 16, images=9, seed=seed, batch_size=4)) for seed in (0, 0, 1)]
    assert len(found[0]) == 2
    assert found[0] == found[1] != found[2]
    assert all(block.positive > 0 for block in found[0])
    assert sum(len(first) for first, _ in pairs_of(store, PAIR, 16, images=99, seed=0)) == 15


def test_measuring_equals_aligning_what_was_read() -> None:
    store, encoder = make_store([0, 1, 2, 0]), make_encoder()
    images = store.images.float() / 255
    found = measure(encoder, [(images[:3], images[:3].flip(3)), (images[3:], images[3:].flip(3))])
    last = extract(encoder, store).blocks[1]
    assert found[1].negative == pytest.approx(align(last, last).negative, rel=1e-5)
    raw = measure(encoder, [(images, images)], normalize=False)
    assert raw[1].positive == 0.0
    assert raw[1].negative == pytest.approx(align(last, last, normalize=False).negative, rel=1e-5)
