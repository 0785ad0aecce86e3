"""Random views of whole batches on the device that holds them, each image with its own parameters.

Given the same parameters, a view equals the composition of torchvision's functional operations on a float image. What
makes it fast: crops and blurs are sparse products (`resample`), colour operations run in place on slices (`color`), and
the views inside a batch are sorted by when their hue turns, so that every slice is contiguous and every operation runs
on exactly the views that want it. Everything a device has to know reaches it in one copy, and nothing is asked back.

Letters: B images, S their stored side, V views of an image, N = V * B views, s their side in pixels.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from stillhouse.data.color import blend, luminance, solarize, turn_hue
from stillhouse.data.draws import Draws, sample
from stillhouse.data.resample import blur_taps, mix_rows, num_taps, resize_taps
from stillhouse.data.views import Interpolation, ViewPlan
from stillhouse.data.worksheet import STAGES, Worksheet, on_device, plan_work

_VALUES_AT_ONCE = 1 << 21  # float32 numbers of a chunk on a CPU: what its cache holds
_EVALUATED_SHARE = 7 / 8


def augment(
    pixels: Tensor, sizes: Tensor, index: Tensor, plan: ViewPlan, image_size: int, seed: int, epoch: int
) -> tuple[Tensor, ...]:
    """Make every view of a batch.

    Args:
        pixels: `[B, S, 3, S]` uint8 (rows, channels, columns), images squashed to a square; any device.
        sizes: `[B, 2]` int64, height and width of the original images.
        index: `[B]` int64, position of the images in the data set.
        plan: the wanted views.
        image_size: side of a view with `size_fraction` 1, in pixels.
        seed: seed of the run.
        epoch: epoch, from 0.

    Returns:
        One `[B, 3, s, s]` float32 in [0, 1] per view, on the device of `pixels`; what they show follows from `seed`,
        `epoch` and `index`, not from the batch.
    """
    return apply(pixels, sizes, sample(plan, image_size, sizes, index, seed, epoch), plan, image_size)


@torch.no_grad()
def apply(pixels: Tensor, sizes: Tensor, draws: Sequence[Draws], plan: ViewPlan, image_size: int) -> tuple[Tensor, ...]:
    """Make the views that were decided, `[B]` rows of `draws` for each view of the plan; see `augment`."""
    settings = [view for view in plan.views for _ in range(view.count)]
    alike: dict[tuple[int, Interpolation], list[int]] = {}
    for number, view in enumerate(settings):
        alike.setdefault((view.size(image_size), view.interpolation), []).append(number)
    views: dict[int, Tensor] = {}
    for (size, interpolation), numbers in alike.items():
        made = pixels.new_empty((len(numbers), len(pixels), 3, size, size), dtype=torch.float32)
        for part in _chunks(pixels, len(numbers), size):
            rows = Draws.join([draws[number][part] for number in numbers])
            _render(pixels[part], sizes[part], rows, interpolation, made[:, part])
        views.update(zip(numbers, made, strict=True))
    return tuple(views[number] for number in range(len(settings)))


@torch.no_grad()
def center_view(pixels: Tensor, image_size: int) -> Tensor:
    """The view for evaluation: no choice, the same every time.

    An image stored at `image_size` is shown as it is, a smaller one whole and enlarged; of a larger one the central 7/8
    of each side, resized (224 of 256, as is usual).

    Args:
        pixels: `[B, S, 3, S]` uint8.
        image_size: s.

    Returns:
        `[B, 3, s, s]` float32 in [0, 1].
    """
    stored = pixels.shape[1]
    if stored == image_size:
        return pixels.transpose(1, 2).float().div_(255.0)
    length = round(_EVALUATED_SHARE * stored) if stored > image_size else stored
    extent = torch.tensor([(stored - length) // 2, length], dtype=torch.float32).repeat(len(pixels), 2)
    source = torch.arange(len(pixels), device=pixels.device)
    flip = torch.zeros_like(source, dtype=torch.bool)
    return _crop(pixels, source, extent.to(pixels.device), flip, image_size, "bicubic").permute(0, 2, 3, 1).contiguous()


def _chunks(pixels: Tensor, num_views: int, size: int) -> list[slice]:
    """Parts of the batch that are worked on together: all of it on an accelerator, what the cache holds on a CPU."""
    batch, stored = len(pixels), pixels.shape[1]
    largest = 3 * max(num_views * size * max(size, stored), stored * stored)
    step = max(1, _VALUES_AT_ONCE // largest) if pixels.device.type == "cpu" else max(1, batch)
    return [slice(start, min(start + step, batch)) for start in range(0, batch, step)]


def _render(pixels: Tensor, sizes: Tensor, draws: Draws, interpolation: Interpolation, made: Tensor) -> None:
    """Write the views `[V, B, 3, s, s]` of the images `[B, S, 3, S]` that `draws` describe, view by view."""
    host, groups = plan_work(draws, sizes.cpu(), pixels.shape[1])
    size = made.shape[-1]
    sheet = on_device(pixels.device, host)
    images = _crop(pixels, sheet.source, sheet.extent, sheet.flip, size, interpolation)
    _jitter(images, sheet, groups)
    if len(sheet.gray_rows):
        gray = luminance(images.index_select(0, sheet.gray_rows)).unsqueeze(2)
        images.index_copy_(0, sheet.gray_rows, gray.expand(-1, -1, 3, -1))
    made.copy_(images.index_select(0, sheet.place).view(*made.shape[:2], size, 3, size).permute(0, 1, 3, 4, 2))
    if len(sheet.blur_rows):
        taps = int(draws.kernel.max())
        _put(made, sheet.blur_views, _blur(images, sheet.blur_rows, sheet.sigma, sheet.radius, taps))
    if len(sheet.solarize_views):
        chosen = made[_where(made, sheet.solarize_views)]
        _put(made, sheet.solarize_views, solarize(chosen, sheet.threshold))


def _where(made: Tensor, views: Tensor) -> tuple[Tensor, Tensor]:
    """Index of views `[M]`, counted view by view, in `[V, B, ...]`."""
    return views // made.shape[1], views % made.shape[1]


def _put(made: Tensor, views: Tensor, images: Tensor) -> None:
    """Replace views `[M]` of `[V, B, 3, s, s]` by `[M, 3, s, s]`."""
    made[_where(made, views)] = images


def _crop(
    pixels: Tensor, source: Tensor, extent: Tensor, flip: Tensor, size: int, interpolation: Interpolation
) -> Tensor:
    """Cut, resize, flip and scale to [0, 1]: `[N, s, 3, s]` as columns, channels, rows."""
    stored, views = pixels.shape[1], len(source)
    taps = num_taps(stored, size, interpolation)  # of the whole image: the sums must not depend on the batch
    row, weight = resize_taps(extent[:, 0], extent[:, 1], size, taps, interpolation)
    row = (source.view(-1, 1, 1) * stored).add(row).mul_(3).unsqueeze(1)
    row = (row + torch.arange(3, device=pixels.device).view(3, 1, 1)).int().view(-1, taps)
    weight = (weight / 255.0).unsqueeze(1).expand(-1, 3, -1, -1).reshape(-1, taps)
    tall = mix_rows(pixels.float().view(-1, stored), row, weight).view(views, 3 * size, stored)
    wide = tall.transpose(1, 2).reshape(-1, 3 * size)
    del tall, row  # memory that is not held need not be fetched from the system for what follows
    column, weight = resize_taps(extent[:, 2], extent[:, 3], size, taps, interpolation)
    column += torch.arange(views, device=pixels.device).view(-1, 1, 1) * stored
    column = torch.where(flip.view(-1, 1, 1), column.flip(1), column).int()
    weight = torch.where(flip.view(-1, 1, 1), weight.flip(1), weight)
    return mix_rows(wide, column.view(-1, taps), weight.view(-1, taps)).view(views, size, 3, size).clamp_(0.0, 1.0)


def _jitter(images: Tensor, sheet: Worksheet, groups: list[int]) -> None:
    """Colour jitter in each image's own order: a stage on all, and before it the hue of those whose turn it is."""
    jittered = images[: groups[-1]]
    for stage, (start, end) in enumerate(pairwise([0, *groups])):
        if start < end:
            turn_hue(images[start:end], sheet.turns[start:end])
        if stage < STAGES and len(jittered):
            of = (stage, slice(groups[-1]))
            blend(jittered, sheet.share[of], sheet.to_gray[of], sheet.to_mean[of])


def _blur(images: Tensor, rows: Tensor, sigma: Tensor, radius: Tensor, taps: int) -> Tensor:
    """Blur the chosen `[M]` of `[N, s, 3, s]` (columns, channels, rows): `[M, 3, s, s]` as channels, rows, columns."""
    size, chosen = images.shape[1], len(rows)
    pixel, weight = blur_taps(sigma, radius, size, taps)
    column = (rows.view(-1, 1, 1) * size + pixel).view(-1, taps)
    weights = weight.unsqueeze(1).expand(-1, size, -1).reshape(-1, taps)
    half = mix_rows(images.view(-1, 3 * size), column, weights).view(chosen, size, 3 * size)
    row = (torch.arange(3 * chosen, device=images.device).view(-1, 1, 1) * size + pixel).view(-1, taps)
    weights = weight.view(chosen, 1, 1, taps).expand(-1, 3, size, -1).reshape(-1, taps)
    table = half.transpose(1, 2).reshape(-1, size)
    return mix_rows(table, row, weights).view(chosen, 3, size, size).clamp_(0.0, 1.0)
