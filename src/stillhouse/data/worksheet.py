"""The order of work on a batch of views, and its way to the device.

Letters: N views, S stored side of the images.
"""

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from stillhouse.data.draws import CONTRAST, HUE, SATURATION, Draws

STAGES = 3  # brightness, contrast, saturation; the hue turns before, between or after them


@dataclass(frozen=True)
class Worksheet:
    """The decisions for N views in the order of work, in pixels of the stored image; rows are work positions.

    Views whose hue turns before the first stage of the jitter come first, those without jitter last.
    """

    source: Tensor  # [N] which image
    extent: Tensor  # [N, 4] first row, rows, first column, columns
    flip: Tensor  # [N]
    share: Tensor  # [stages, N], as `to_gray` and `to_mean`: arguments of `blend`
    to_gray: Tensor
    to_mean: Tensor
    turns: Tensor  # [N]
    place: Tensor  # [N] work position of each view
    gray_rows: Tensor  # work positions of what loses colour
    blur_rows: Tensor  # work positions of what is blurred
    blur_views: Tensor  # and which view it is
    sigma: Tensor
    radius: Tensor
    solarize_views: Tensor
    threshold: Tensor


def plan_work(draws: Draws, sizes: Tensor, stored: int) -> tuple[Worksheet, list[int]]:
    """Sort views by when their hue turns.

    Args:
        draws: decisions for N = V * B views, view by view.
        sizes: `[B, 2]`, height and width of the original images.
        stored: S.

    Returns:
        The sheet, on the CPU, and four ends of slices: hue before stage 0, before 1, before 2, after all.
    """
    slot = torch.where(draws.jitter, (draws.order == HUE).to(torch.uint8).argmax(1), len(draws.order[0]))
    work = torch.argsort(slot, stable=True)
    done = draws[work]
    stages = done.order[done.order != HUE].view(-1, STAGES).t()
    blur_rows = done.blur.nonzero().squeeze(1)
    solarize_views = draws.solarize.nonzero().squeeze(1)
    sheet = Worksheet(
        source=work % len(sizes),
        extent=_extent(done.box, sizes[work % len(sizes)], stored),
        flip=done.flip,
        share=1.0 - done.factors.gather(1, stages.t()).t(),
        to_gray=(stages == SATURATION).float(),
        to_mean=(stages == CONTRAST).float(),
        turns=done.factors[:, HUE],
        place=torch.argsort(work),
        gray_rows=done.grayscale.nonzero().squeeze(1),
        blur_rows=blur_rows,
        blur_views=work[blur_rows],
        sigma=done.sigma[blur_rows],
        radius=(done.kernel[blur_rows] // 2).float(),
        solarize_views=solarize_views,
        threshold=draws.threshold[solarize_views],
    )
    return sheet, torch.bincount(slot, minlength=STAGES + 2)[: STAGES + 1].cumsum(0).tolist()


def _extent(box: Tensor, sizes: Tensor, stored: int) -> Tensor:
    """Boxes of the original as `[N, 4]` first row, rows, first column, columns of the stored square, whole pixels."""
    scale = stored / sizes.double()
    first = (box[:, :2] * scale).round_().clamp_(max=stored - 1)
    last = ((box[:, :2] + box[:, 2:]) * scale).round_()
    return torch.stack((first, (last - first).clamp_(min=1)), 2).flatten(1).float()


def on_device(device: torch.device, sheet: Worksheet) -> Worksheet:
    """The sheet on another device, in one copy that nobody waits for."""
    if device.type == "cpu":
        return sheet
    numbers = pack(sheet)
    numbers = numbers.pin_memory() if device.type == "cuda" else numbers
    return unpack(numbers.to(device, non_blocking=True), sheet)


def pack(sheet: Worksheet) -> Tensor:
    """All numbers of the sheet in a row; float32 holds each of them exactly, positions up to 2^24."""
    return torch.cat([getattr(sheet, field.name).flatten().float() for field in dataclasses.fields(sheet)])


def unpack(numbers: Tensor, like: Worksheet) -> Worksheet:
    """The sheet that was packed, on the device of `numbers`, with the shapes and types of `like`."""
    tensors = [getattr(like, field.name) for field in dataclasses.fields(like)]
    parts = torch.split(numbers, [tensor.numel() for tensor in tensors])
    return Worksheet(*(part.view(old.shape).to(old.dtype) for part, old in zip(parts, tensors, strict=True)))
