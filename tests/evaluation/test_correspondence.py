"""Regions that find their places again, or do not."""

import dataclasses
import json
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stillhouse.errors import SettingsError
from stillhouse.evaluation.config import EvaluationConfig
from stillhouse.evaluation.correspondence import COPIES, _copies, compare, correspondence
from stillhouse.evaluation.judge import evaluate
from stillhouse.networks.build import EncoderConfig, build_encoder
from stillhouse.networks.encoder import Encoder, Features
from tests.evaluation.made_up import make_store


class Patches(Encoder):
    """Regions are patches of 4 x 4 pixels, their values sorted, so that a mirror image shows the same."""

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.image_size, self.dim, self.block_dims = image_size, 16, (16,)

    def features(self, images: Tensor) -> Features:
        patches: Tensor = F.unfold(images[:, :1], 4, stride=4).mT.sort(dim=2).values
        regions = patches - patches.mean(2, keepdim=True)
        return Features(regions.mean(1), regions, (regions.mean(1),))


def mirrored(regions: Tensor, side: int) -> Tensor:
    mirror: Tensor = regions.unflatten(1, (side, side)).flip(2).flatten(1, 2)
    return mirror


def rows(images: int, side: int, dim: int = 32) -> Tensor:
    return torch.randn(images, side**2, dim, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("side", [2, 4, 7])
def test_a_mirror_image_of_distinct_regions_is_found_whole(side: int) -> None:
    first = rows(3, side)
    found = compare(first, 3 * mirrored(first, side))
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.0, 1.0]]).expand(3, 3))
    wrong = compare(first, first)
    share = 1 / side if side % 2 else 0.0  # only the middle column lies where its mirror image does
    assert abs(wrong[:, 0].mean().item() - share) < 0.2
    assert (wrong[:, 1] > 0).all()


def test_regions_all_alike_are_all_taken_for_the_first() -> None:
    same = torch.ones(2, 16, 8)
    found = compare(same, same)
    distances = [math.hypot(place // 4, 3 - place % 4) for place in range(10)]
    torch.testing.assert_close(found, torch.tensor([[0.1, sum(distances) / 10, 1.0]]).expand(2, 3))


def test_only_the_ten_most_alike_pairs_count() -> None:
    first = torch.eye(25).expand(1, 25, 25)
    second = mirrored(first, 5).clone()
    spoilt = [place for place in range(25) if place % 5 != 2][:15]
    second[0, spoilt] = torch.roll(second[0, spoilt], 1, 0) + 0.5  # found at the wrong place, and less alike
    accuracy, distance, similarity = compare(first, second)[0].tolist()
    assert (accuracy, distance, similarity) == (1.0, 0.0, 1.0)


def test_copies_are_the_image_and_its_gray_mirror_image_drawn_by_seed() -> None:
    store = make_store([0, 1, 2] * 4, size=8)
    index = torch.tensor([3, 0, 7])
    first, second = _copies(store, index, 8, 0)
    torch.testing.assert_close(first, store.images[index] / 255.0)
    assert torch.equal(second[:, 0], second[:, 1])
    assert torch.equal(_copies(store, index, 8, 0)[1], second)
    assert not torch.equal(_copies(store, index, 8, 1)[1], second)
    calm = dataclasses.replace(COPIES.views[1], jitter=0.0)
    assert calm.flip == calm.grayscale == 1.0
    enlarged = _copies(store, index, 16, 0)
    assert enlarged[0].shape == enlarged[1].shape == (3, 3, 16, 16)


def test_what_sees_the_same_in_a_mirror_finds_its_places() -> None:
    store = make_store([1] * 18, size=16)
    store.images = store.images[:, :1].expand(-1, 3, -1, -1)  # of gray, colour jitter leaves the order of pixels
    found = correspondence(Patches(16), store, images=12, batch_size=5)
    assert (found.images, found.regions) == (12, 16)
    assert found.accuracy > 0.9
    assert found.distance < 1.0
    assert found == correspondence(Patches(16), store, images=12, batch_size=12)
    assert found.sentence.startswith(f"{100 * found.accuracy:.1f} % of the 10 most alike pairs show the same place")
    blind = correspondence(build_encoder(EncoderConfig(name="swin_nano", image_size=16)), store, images=12)
    assert blind.accuracy < found.accuracy


@pytest.mark.parametrize("size", [4, 8])
def test_without_a_grid_of_regions_there_is_nothing_to_find(size: int) -> None:
    encoder = Patches(size) if size == 4 else build_encoder(EncoderConfig(name="resnet10", image_size=size))
    store = make_store([0, 1, 2] * 4, size=size)
    config = EvaluationConfig(k=3, correspondence_images=4)
    with pytest.raises(
        SettingsError, match=r"evaluation.correspondence_images: .* regions, 1 at . px, are no square grid"
    ):
        evaluate(encoder, store, store, config=config)


def test_the_evaluation_holds_it_beside_the_untrained_network() -> None:
    encoder, other = (build_encoder(EncoderConfig(name="swin_nano", image_size=16), seed) for seed in (0, 1))
    store = make_store([0, 1, 2] * 10, size=16)
    config = EvaluationConfig(k=3, linear=False, alignment_images=0, correspondence_images=8)
    found = evaluate(encoder, store, store, untrained=other, config=config)
    assert found.correspondence["encoder"] == correspondence(encoder, store, images=8)
    assert found.correspondence["untrained"] == correspondence(other, store, images=8)
    written = json.loads(found.to_json())
    assert written["correspondence"]["encoder"] == dataclasses.asdict(found.correspondence["encoder"])
    assert any(note.startswith("regions of the encoder in changed copies: ") for note in found.notes)
    assert not evaluate(encoder, store, store, config=EvaluationConfig(k=3, linear=False)).correspondence
