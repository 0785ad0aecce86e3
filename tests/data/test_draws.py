"""What is decided for views: the right frequencies and ranges, torchvision's crops, and independence of the batch."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import RandomResizedCrop

from stillhouse.data.draws import Draws, sample
from stillhouse.data.random import uniform
from stillhouse.data.views import ASYMMETRIC_PAIR, MULTI_CROP, PAIR, View, ViewPlan

MANY = 10_000


def draw(view: View, count: int = MANY, height: int = 32, width: int = 32, seed: int = 0, epoch: int = 0) -> Draws:
    sizes = torch.tensor([[height, width]]).expand(count, 2)
    return sample(ViewPlan(views=(view,)), 32, sizes, torch.arange(count), seed, epoch)[0]


def tensors(draws: Draws) -> list[Tensor]:
    return [getattr(draws, field.name) for field in dataclasses.fields(draws)]


def near(share: float, probability: float) -> bool:
    """Whether a share of `MANY` draws lies within four standard deviations."""
    return abs(share - probability) <= 4 * math.sqrt(probability * (1 - probability) / MANY)


@pytest.mark.parametrize("view", [*PAIR.views, *ASYMMETRIC_PAIR.views, *MULTI_CROP.views])
def test_frequencies(view: View) -> None:
    """Counts over 10,000 draws lie within four sigma of p; where p is 0 or 1 they are exact."""
    draws = draw(dataclasses.replace(view, count=1))
    for name in ("flip", "jitter", "grayscale", "blur", "solarize"):
        assert near(float(getattr(draws, name).double().mean()), getattr(view, name)), name


def test_decisions_are_independent_of_each_other() -> None:
    draws = draw(View(flip=0.5, jitter=0.5, grayscale=0.5, blur=0.5, solarize=0.5))
    names = ("flip", "jitter", "grayscale", "blur", "solarize")
    table = torch.corrcoef(torch.stack([getattr(draws, name).double() for name in names]))
    assert float((table - torch.eye(len(names))).abs().max()) < 4 / math.sqrt(MANY)


def test_colour_factors_and_orders() -> None:
    draws = draw(View(brightness=0.4, contrast=1.5, saturation=0.2, hue=0.1))
    for factor, low, high in zip(draws.factors.unbind(1), (0.6, 0, 0.8, -0.1), (1.4, 2.5, 1.2, 0.1), strict=True):
        assert low <= float(factor.min()) < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < float(factor.max()) <= high
        deviation = (high - low) / math.sqrt(12 * MANY)
        assert abs(float(factor.double().mean()) - (low + high) / 2) < 4 * deviation
    counts = torch.unique(draws.order, dim=0, return_counts=True)[1]
    assert len(counts) == 24
    assert abs(float(((counts - MANY / 24) ** 2 / (MANY / 24)).sum()) - 23) < 4 * math.sqrt(2 * 23)


def slow_box(view: View, height: int, width: int, numbers: list[float]) -> list[int]:
    """Torchvision's sampling, one image at a time, from given uniform numbers."""
    low, high = (math.log(bound) for bound in view.aspect)
    for area, ratio in zip(numbers[:10], numbers[10:20], strict=True):
        target = height * width * (view.min_area + (view.max_area - view.min_area) * area)
        aspect = math.exp(low + (high - low) * ratio)
        w, h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            return [int(numbers[20] * (height - h + 1)), int(numbers[21] * (width - w + 1)), h, w]
    w, h = width, height
    if width / height < view.aspect[0]:
        h = round(w / view.aspect[0])
    elif width / height > view.aspect[1]:
        w = round(h * view.aspect[1])
    return [(height - h) // 2, (width - w) // 2, h, w]


@pytest.mark.parametrize(
    ("height", "width", "view"),
    [
        (32, 32, View()),
        (333, 500, View(min_area=0.05, max_area=0.4)),
        (60, 400, View(min_area=0.8)),
        (400, 60, View(min_area=0.8)),
        (101, 100, View(min_area=1.0)),
        (1, 1, View()),
    ],
)
def test_boxes_equal_a_slow_loop(height: int, width: int, view: View) -> None:
    numbers = uniform(0, 0, torch.arange(300), torch.arange(22)).tolist()
    expected = [slow_box(view, height, width, row) for row in numbers]
    assert draw(view, 300, height, width).box.tolist() == expected


def test_boxes_are_distributed_as_those_of_torchvision() -> None:
    """Two-sample Kolmogorov-Smirnov distances of area, aspect and place stay below the 1e-4 quantile."""
    torch.manual_seed(0)
    height, width = 48, 72
    image, crop = torch.zeros(3, height, width), RandomResizedCrop(32)
    parameters = [crop.make_params([image]) for _ in range(4000)]
    theirs = torch.tensor([[p["top"], p["left"], p["height"], p["width"]] for p in parameters]).double()
    ours = draw(View(), 4000, height, width).box.double()
    for first, second in zip(
        *([*b.unbind(1), b[:, 2] * b[:, 3], b[:, 3] / b[:, 2]] for b in (ours, theirs)), strict=True
    ):
        first, second = first.sort().values, second.sort().values
        at = torch.cat((first, second))
        gap = torch.searchsorted(first, at, right=True) - torch.searchsorted(second, at, right=True)
        assert float(gap.abs().max()) / 4000 < 2.23 * math.sqrt(2 / 4000)


def test_boxes_cover_the_wanted_share_and_stay_inside() -> None:
    box = draw(View(min_area=0.3, max_area=0.5), height=300, width=200).box.double()
    share = box[:, 2] * box[:, 3] / 60_000
    aspect = box[:, 3] / box[:, 2]
    assert 0.29 < float(share.min()) < 0.31
    assert 0.49 < float(share.max()) < 0.51
    assert float(aspect.min()) > 0.74
    assert float(aspect.max()) < 1.35
    assert int(box[:, :2].min()) == 0
    assert int((box[:, 0] + box[:, 2]).max()) == 300
    assert int((box[:, 1] + box[:, 3]).max()) == 200


def test_an_image_draws_the_same_in_every_batch() -> None:
    sizes = torch.randint(20, 90, (50, 2), generator=torch.Generator().manual_seed(0))
    index = torch.arange(50) * 977
    whole = sample(MULTI_CROP, 224, sizes, index, 5, 3)
    chosen = torch.tensor([40, 3, 17])
    for all_rows, rows in zip(whole, sample(MULTI_CROP, 224, sizes[chosen], index[chosen], 5, 3), strict=True):
        for first, second in zip(tensors(all_rows), tensors(rows), strict=True):
            assert torch.equal(first[chosen], second)


def test_views_epochs_and_seeds_differ() -> None:
    first, second = sample(PAIR, 32, torch.full((100, 2), 32), torch.arange(100), 0, 0)
    later = draw(PAIR.views[0], 100, epoch=1)
    others = draw(PAIR.views[0], 100, seed=1)
    for rows in (second, later, others):
        assert float((first.factors == rows.factors).double().mean()) < 0.01
        assert float((first.box == rows.box).all(1).double().mean()) < 0.1
