"""Views equal torchvision's functional operations on float images, given the same parameters.

The bound everywhere is 1e-5 of the full range; the largest measured is 5e-6 (a 63-pixel blur), 2e-6 without it.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from stillhouse.data.augment import apply, augment, center_view
from stillhouse.data.draws import BRIGHTNESS, CONTRAST, HUE, SATURATION, Draws, sample
from stillhouse.data.views import (
    ASYMMETRIC_PAIR,
    CIFAR_ASYMMETRIC_PAIR,
    MULTI_CROP,
    PAIR,
    Interpolation,
    View,
    ViewPlan,
)

BOUND = 1e-5
NOTHING = View(flip=0.0, jitter=0.0, grayscale=0.0, blur=0.0)
COLOURS = {
    BRIGHTNESS: reference.adjust_brightness,
    CONTRAST: reference.adjust_contrast,
    SATURATION: reference.adjust_saturation,
    HUE: reference.adjust_hue,
}


def pictures(count: int, side: int, seed: int = 0) -> Tensor:
    """`[B, S, 3, S]` uint8: noise at three scales, with a gray, a black and a saturated image among them."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.zeros(count, 3, side, side)
    for cells in (2, max(2, side // 4), side):
        noise = torch.rand(count, 3, cells, cells, generator=generator)
        image += torch.nn.functional.interpolate(noise, size=(side, side), mode="bilinear") / 2
    image = ((image - 0.75) * 1.5 + 0.5).clamp(0, 1)
    image[0] = image[0, :1]
    image[1 % count] = 0
    image[2 % count] = image[2 % count].round()
    return (image * 255).round().to(torch.uint8).transpose(1, 2).contiguous()


def stored_box(draws: Draws, row: int, size: Tensor, stored: int) -> list[int]:
    """The box in the stored square: top, left, height, width."""
    top, left, height, width = draws.box[row].tolist()
    edges = []
    for start, length, original in ((top, height, int(size[0])), (left, width, int(size[1]))):
        first = min(round(start * stored / original), stored - 1)
        edges.append((first, max(1, round((start + length) * stored / original) - first)))
    return [edges[0][0], edges[1][0], edges[0][1], edges[1][1]]


def one_view(image: Tensor, box: list[int], draws: Draws, row: int, size: int, interpolation: str) -> Tensor:
    """One view `[3, s, s]` of an image `[3, S, S]` in [0, 1] by torchvision."""
    mode = InterpolationMode(interpolation)
    view: Tensor = reference.resized_crop(image, *box, [size, size], interpolation=mode, antialias=True).clamp(0, 1)
    if draws.flip[row]:
        view = reference.horizontal_flip(view)
    if draws.jitter[row]:
        for operation in draws.order[row].tolist():
            view = COLOURS[operation](view, float(draws.factors[row, operation]))
    if draws.grayscale[row]:
        view = reference.rgb_to_grayscale(view, num_output_channels=3)
    if draws.blur[row]:
        kernel, sigma = int(draws.kernel[row]), float(draws.sigma[row])
        view = reference.gaussian_blur(view, [kernel, kernel], [sigma, sigma])
    if draws.solarize[row]:
        view = reference.solarize(view, float(draws.threshold[row]))
    return view


def largest_difference(plan: ViewPlan, image_size: int, stored: int, sizes: Tensor, seed: int = 0) -> float:
    """Greatest difference between `augment` and torchvision over a batch."""
    pixels, index = pictures(len(sizes), stored, seed), torch.arange(len(sizes))
    made = augment(pixels, sizes, index, plan, image_size, seed, 0)
    drawn = sample(plan, image_size, sizes, index, seed, 0)
    settings = [view for view in plan.views for _ in range(view.count)]
    worst = 0.0
    for views, draws, view in zip(made, drawn, settings, strict=True):
        assert views.shape == (len(sizes), 3, view.size(image_size), view.size(image_size))
        for row in range(len(sizes)):
            box = stored_box(draws, row, sizes[row], stored)
            image = pixels[row].transpose(0, 1).float() / 255
            expected = one_view(image, box, draws, row, views.shape[-1], view.interpolation)
            worst = max(worst, float((views[row] - expected).abs().max()))
    return worst


def square(count: int, side: int) -> Tensor:
    return torch.full((count, 2), side)


@pytest.mark.parametrize("plan", [PAIR, ASYMMETRIC_PAIR, CIFAR_ASYMMETRIC_PAIR, MULTI_CROP])
def test_whole_chain_at_32_pixels(plan: ViewPlan) -> None:
    assert largest_difference(plan, 32, 32, square(96, 32)) < BOUND


@pytest.mark.parametrize(("stored", "image_size", "count"), [(64, 32, 48), (48, 224, 6), (256, 224, 6), (8, 32, 48)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_whole_chain_from_any_size_to_any_size(
    stored: int, image_size: int, count: int, interpolation: Interpolation
) -> None:
    views = tuple(replace(view, interpolation=interpolation) for view in ASYMMETRIC_PAIR.views)
    assert largest_difference(ViewPlan(views=views), image_size, stored, square(count, stored)) < BOUND


@pytest.mark.parametrize(("stored", "image_size", "count"), [(32, 32, 60), (256, 224, 6)])
def test_whole_chain_with_other_shapes_of_originals(stored: int, image_size: int, count: int) -> None:
    sizes = torch.randint(20, 700, (count, 2), generator=torch.Generator().manual_seed(1))
    sizes[0] = torch.tensor([1, 1])
    sizes[1] = torch.tensor([3, 900])
    assert largest_difference(ASYMMETRIC_PAIR, image_size, stored, sizes) < BOUND


ONE_EACH = {
    "flip": replace(NOTHING, flip=1.0),
    "brightness": replace(NOTHING, jitter=1.0, contrast=0.0, saturation=0.0, hue=0.0),
    "contrast": replace(NOTHING, jitter=1.0, brightness=0.0, saturation=0.0, hue=0.0),
    "saturation": replace(NOTHING, jitter=1.0, brightness=0.0, contrast=0.0, hue=0.0),
    "hue": replace(NOTHING, jitter=1.0, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.5),
    "strong jitter": replace(NOTHING, jitter=1.0, brightness=1.0, contrast=1.0, saturation=1.0, hue=0.5),
    "grayscale": replace(NOTHING, grayscale=1.0),
    "blur": replace(NOTHING, blur=1.0, blur_kernel=9),
    "greatest blur": replace(NOTHING, blur=1.0, blur_kernel=63, blur_sigma=(4.0, 20.0)),
    "solarize": replace(NOTHING, solarize=1.0),
}


@pytest.mark.parametrize("name", ONE_EACH)
def test_each_operation_alone(name: str) -> None:
    assert largest_difference(ViewPlan(views=(ONE_EACH[name],)), 32, 32, square(96, 32)) < BOUND


def test_views_of_one_size_may_want_different_kernels_and_filters() -> None:
    views = (View(blur=1.0, blur_kernel=3), View(blur=1.0, blur_kernel=9), View(interpolation="bilinear", count=2))
    assert largest_difference(ViewPlan(views=views), 32, 32, square(40, 32)) < BOUND


def test_no_operation_and_the_whole_image_is_the_identity() -> None:
    """With all probabilities 0 a crop of everything gives the pixels back, to rounding of the division by 255."""
    view = replace(NOTHING, min_area=1.0, aspect=(1.0, 1.0), count=2)
    pixels = pictures(20, 32)
    for views in augment(pixels, square(20, 32), torch.arange(20), ViewPlan(views=(view,)), 32, 0, 0):
        torch.testing.assert_close(views, pixels.transpose(1, 2) / 255, atol=2e-7, rtol=0)


def test_pixels_do_not_depend_on_the_batch() -> None:
    pixels, index = pictures(40, 32), torch.arange(40) + 1000
    whole = augment(pixels, square(40, 32), index, ASYMMETRIC_PAIR, 32, 0, 4)
    chosen = torch.tensor([31, 2, 17, 5])
    part = augment(pixels[chosen], square(4, 32), index[chosen], ASYMMETRIC_PAIR, 32, 0, 4)
    for first, second in zip(whole, part, strict=True):
        assert torch.equal(first[chosen], second)


def test_a_large_batch_equals_its_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU works on chunks; where they end changes nothing."""
    pixels, index = pictures(30, 32), torch.arange(30)
    whole = augment(pixels, square(30, 32), index, MULTI_CROP, 32, 0, 0)
    monkeypatch.setattr("stillhouse.data.augment._VALUES_AT_ONCE", 7 * 3 * 2 * 32 * 32)
    for first, second in zip(whole, augment(pixels, square(30, 32), index, MULTI_CROP, 32, 0, 0), strict=True):
        assert torch.equal(first, second)


def test_draws_can_be_replayed() -> None:
    pixels, sizes = pictures(12, 32), square(12, 32)
    draws = sample(PAIR, 32, sizes, torch.arange(12), 8, 2)
    made = augment(pixels, sizes, torch.arange(12), PAIR, 32, 8, 2)
    for first, second in zip(made, apply(pixels, sizes, draws, PAIR, 32), strict=True):
        assert torch.equal(first, second)


def test_input_is_left_alone_and_output_is_in_range() -> None:
    pixels = pictures(64, 32)
    before = pixels.clone()
    views = augment(pixels, square(64, 32), torch.arange(64), ASYMMETRIC_PAIR, 32, 0, 0)
    assert torch.equal(pixels, before)
    for view in views:
        assert view.is_contiguous()
        assert 0 <= float(view.min()) <= float(view.max()) <= 1


def test_an_empty_batch_gives_empty_views() -> None:
    views = augment(pictures(3, 32)[:0], square(0, 32), torch.arange(0), PAIR, 32, 0, 0)
    assert [view.shape for view in views] == [(0, 3, 32, 32)] * 2


def test_center_view_shows_a_stored_image_as_it_is() -> None:
    pixels = pictures(5, 32)
    torch.testing.assert_close(center_view(pixels, 32), pixels.transpose(1, 2) / 255, atol=1e-7, rtol=0)


@pytest.mark.parametrize(("stored", "image_size", "length"), [(256, 224, 224), (64, 32, 56), (48, 224, 48), (8, 32, 8)])
def test_center_view_of_other_sizes(stored: int, image_size: int, length: int) -> None:
    pixels = pictures(4, stored)
    images = reference.center_crop(pixels.transpose(1, 2).float() / 255, [length, length])
    expected = reference.resize(images, [image_size, image_size], InterpolationMode.BICUBIC, antialias=True).clamp(0, 1)
    torch.testing.assert_close(center_view(pixels, image_size), expected, atol=BOUND, rtol=0)
