"""Deciding what happens to each view: numbers first, pixels later.

The decisions are plain tensors on the CPU that follow from seed, epoch, index of the image, number of the view and size
of the original image alone. Whoever has them can make the same view again.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from stillhouse.data.random import uniform
from stillhouse.data.views import View, ViewPlan

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
_ORDERS = torch.tensor(list(itertools.permutations((BRIGHTNESS, CONTRAST, SATURATION, HUE))))
_ATTEMPTS = 10
_SLOTS_PER_VIEW = 64
_NUM_SLOTS = 2 * _ATTEMPTS + 13


@dataclass(frozen=True)
class Draws:
    """What was decided for N views, one row each; the region of the original that a view shows is `box` and `flip`.

    Args:
        box: `[N, 4]` int64, top, left, height and width of the crop in pixels of the original image.
        flip: `[N]` bool, whether left and right change places.
        jitter: `[N]` bool, whether colours change.
        order: `[N, 4]` int64, order of BRIGHTNESS, CONTRAST, SATURATION and HUE.
        factors: `[N, 4]` float32, brightness, contrast and saturation factors (1: unchanged) and turns of the hue.
        grayscale: `[N]` bool.
        blur: `[N]` bool.
        sigma: `[N]` float32, standard deviation of the blur in pixels of the view.
        kernel: `[N]` int64, width of the blur in pixels of the view.
        solarize: `[N]` bool.
        threshold: `[N]` float32, brightness from which solarization inverts.
    """

    box: Tensor
    flip: Tensor
    jitter: Tensor
    order: Tensor
    factors: Tensor
    grayscale: Tensor
    blur: Tensor
    sigma: Tensor
    kernel: Tensor
    solarize: Tensor
    threshold: Tensor

    def __len__(self) -> int:
        return len(self.box)

    def __getitem__(self, rows: Tensor | slice) -> Self:
        return type(self)(*(tensor[rows] for tensor in self._tensors()))

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """One table below the other."""
        return cls(*(torch.cat(tensors) for tensors in zip(*(part._tensors() for part in parts), strict=True)))

    def _tensors(self) -> list[Tensor]:
        return [getattr(self, field.name) for field in dataclasses.fields(self)]


def sample(plan: ViewPlan, image_size: int, sizes: Tensor, index: Tensor, seed: int, epoch: int) -> tuple[Draws, ...]:
    """Decide every view of a batch.

    Args:
        plan: the wanted views.
        image_size: side of a view with `size_fraction` 1, in pixels.
        sizes: `[B, 2]` int64, height and width of the original images.
        index: `[B]` int64, position of the images in the data set.
        seed: seed of the run.
        epoch: epoch, from 0.

    Returns:
        The `[B]` rows of each of the `plan.num_views` views.
    """
    sizes, index = sizes.cpu(), index.cpu()
    draws: list[Draws] = []
    for view in plan.views:
        numbers = torch.arange(len(draws), len(draws) + view.count)
        slots = (numbers.unsqueeze(1) * _SLOTS_PER_VIEW + torch.arange(_NUM_SLOTS)).flatten()
        uniforms = uniform(seed, epoch, index, slots).view(len(index), view.count, _NUM_SLOTS)
        rows = _decide(view, image_size, sizes.repeat(view.count, 1), uniforms.transpose(0, 1).flatten(0, 1))
        draws += [rows[copy * len(index) : (copy + 1) * len(index)] for copy in range(view.count)]
    return tuple(draws)


def _decide(view: View, image_size: int, sizes: Tensor, uniforms: Tensor) -> Draws:
    """Turn uniform numbers `[N, slots]` into decisions."""
    rest = uniforms[:, 2 * _ATTEMPTS :].unbind(1)
    place, (flip, jitter, order, *factors, grayscale, blur, sigma, solarize) = rest[:2], rest[2:]
    low, high = view.blur_sigma
    return Draws(
        box=_boxes(view, sizes, uniforms[:, :_ATTEMPTS], uniforms[:, _ATTEMPTS : 2 * _ATTEMPTS], *place),
        flip=flip < view.flip,
        jitter=jitter < view.jitter,
        order=_ORDERS[(order * len(_ORDERS)).long()],
        factors=_factors(view, torch.stack(factors, 1)).float(),
        grayscale=grayscale < view.grayscale,
        blur=blur < view.blur,
        sigma=(low + (high - low) * sigma).float(),
        kernel=torch.full_like(flip, view.kernel(image_size), dtype=torch.int64),
        solarize=solarize < view.solarize,
        threshold=torch.full_like(flip, view.solarize_threshold, dtype=torch.float32),
    )


def _factors(view: View, uniforms: Tensor) -> Tensor:
    """Factors `[N, 4]`, uniform in [max(0, 1 - strength), 1 + strength] or, for the hue, in [-strength, strength]."""
    low = [max(0.0, 1.0 - strength) for strength in (view.brightness, view.contrast, view.saturation)]
    high = [1.0 + strength for strength in (view.brightness, view.contrast, view.saturation)]
    start, end = uniforms.new_tensor([*low, -view.hue]), uniforms.new_tensor([*high, view.hue])
    return start + (end - start) * uniforms


def _boxes(view: View, sizes: Tensor, area: Tensor, ratio: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """Boxes `[N, 4]` of random resized crops: the first of ten attempts `[N, 10]` that fits, else the central crop.

    Source: Szegedy et al. 2015 as torchvision's `RandomResizedCrop` has it, with its rounding.
    """
    height, width = sizes.double().unsqueeze(-1).unbind(1)
    target = (view.min_area + (view.max_area - view.min_area) * area) * height * width
    smallest, largest = (torch.tensor(bound, dtype=torch.float64).log() for bound in view.aspect)
    aspect = (smallest + (largest - smallest) * ratio).exp_()
    columns, rows = (target * aspect).sqrt_().round_(), (target / aspect).sqrt_().round_()
    fits = (columns > 0) & (columns <= width) & (rows > 0) & (rows <= height)
    first = fits.to(torch.uint8).argmax(1, keepdim=True)
    found, (height, width) = fits.any(1), (height.squeeze(1), width.squeeze(1))
    central_rows, central_columns = _central(view, height, width)
    rows = torch.where(found, rows.gather(1, first).squeeze(1), central_rows)
    columns = torch.where(found, columns.gather(1, first).squeeze(1), central_columns)
    top = torch.where(found, top * (height - rows + 1), (height - rows) / 2).floor_()
    left = torch.where(found, left * (width - columns + 1), (width - columns) / 2).floor_()
    return torch.stack((top, left, rows, columns), 1).long()


def _central(view: View, height: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """Height and width `[N]` of the greatest crop whose aspect is allowed."""
    low, high = view.aspect
    rows = torch.where(width / height < low, (width / low).round(), height)
    columns = torch.where(width / height > high, (height * high).round(), width)
    return rows.clamp(min=1.0), columns.clamp(min=1.0)
