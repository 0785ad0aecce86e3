"""Resizing and blurring as sums of a few rows.

Every output row of a resized or blurred image is a weighted sum of a few input rows: its taps. An image whose rows are
contiguous is mixed along them by one sparse product; turning it between two such products gives the other axis. The
weights belong to each image alone, so one call crops, flips and resizes a whole batch, each image in its own way.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from stillhouse.data.views import Interpolation

_REACH = {"bicubic": 2.0, "bilinear": 1.0}  # half-width of the filter, in input pixels, when nothing shrinks


def num_taps(longest: int, size: int, interpolation: Interpolation) -> int:
    """Input pixels that one output pixel can depend on when up to `longest` pixels become `size`."""
    return math.ceil(2 * _REACH[interpolation] * max(1.0, longest / size))


def resize_taps(
    start: Tensor, length: Tensor, size: int, taps: int, interpolation: Interpolation
) -> tuple[Tensor, Tensor]:
    """Taps that resize `length` pixels from `start` on to `size` pixels, with antialiasing.

    Args:
        start: `[N]` float32, first input pixel of each image.
        length: `[N]` float32, input pixels of each image, at least 1.
        size: output pixels.
        taps: K, at least `num_taps` of the greatest length.
        interpolation: filter; bicubic has a = -0.5.

    Returns:
        Input pixels `[N, size, K]` int64 and their weights `[N, size, K]` float32; weights of a pixel sum to 1.

    Source: the antialiased resize of torch and Pillow: the filter is stretched when the image shrinks, cut at the
    borders of the crop and normalized.
    """
    length = length.view(-1, 1, 1)
    scale = length / size
    stretch = scale.clamp_min(1.0)
    center = (torch.arange(size, device=start.device, dtype=start.dtype).view(1, -1, 1) + 0.5) * scale
    reach = _REACH[interpolation] * stretch
    first = (center - reach + 0.5).floor_().clamp_min_(0.0)
    last = (center + reach + 0.5).floor_().minimum(length)
    pixel = first + torch.arange(taps, device=start.device, dtype=start.dtype)
    distance = (pixel - (center - 0.5)).div_(stretch).abs_()
    weight = (_cubic(distance) if interpolation == "bicubic" else (1.0 - distance).clamp_min_(0.0)).mul_(pixel < last)
    weight /= weight.sum(-1, keepdim=True)
    return pixel.minimum(length - 1).add_(start.view(-1, 1, 1)).long(), weight


def blur_taps(sigma: Tensor, radius: Tensor, size: int, taps: int) -> tuple[Tensor, Tensor]:
    """Taps of a Gaussian blur with reflection at the borders.

    Args:
        sigma: `[N]` float32, standard deviation of each image, in pixels.
        radius: `[N]` float32, where each image's kernel ends, in pixels; below `size`.
        size: pixels of the axis.
        taps: K, 2 * the greatest radius + 1.

    Returns:
        Pixels `[size, K]` int64, shared by all images, and weights `[N, K]` float32, shared by all output pixels.
    """
    offset = torch.arange(taps, device=sigma.device) - taps // 2
    weight = (offset / sigma.unsqueeze(1)).square_().mul_(-0.5).exp_().mul_(offset.abs() <= radius.unsqueeze(1))
    weight /= weight.sum(-1, keepdim=True)
    pixel = (torch.arange(size, device=sigma.device).unsqueeze(1) + offset).abs_()
    return (size - 1) - (size - 1 - pixel).abs_(), weight


def mix_rows(table: Tensor, row: Tensor, weight: Tensor) -> Tensor:
    """Weighted sums of rows: `[M, D]` from a table `[R, D]`, with rows and weights `[M, K]`."""
    return functional.embedding_bag(row, table, mode="sum", per_sample_weights=weight)


def _cubic(distance: Tensor) -> Tensor:
    """Keys' cubic filter with a = -0.5 of distances >= 0; 0 from 2 on."""
    near = distance.clamp(max=1.0)
    far = distance.clamp(1.0, 2.0)
    inner = ((1.5 * near).sub_(2.5)).mul_(near).mul_(near).add_(1.0)
    outer = ((-0.5 * far).add_(2.5)).mul_(far).sub_(4.0).mul_(far).add_(2.0)
    return inner.add_(outer)
