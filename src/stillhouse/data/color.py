"""Colour operations on a batch, in place, with their own strength for every image.

Images are `[N, W, 3, H]` float32 in [0, 1]; any two spatial axes will do. N images, W and H pixels.
"""

import torch
from torch import Tensor

_TINY = 1e-8  # a chroma below this changes no pixel visibly


def luminance(images: Tensor) -> Tensor:
    """Brightness as the eye sees it, `[N, W, H]`: 0.2989 red + 0.587 green + 0.114 blue (ITU-R 601)."""
    red, green, blue = images.unbind(2)
    return red.mul(0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114)


def blend(images: Tensor, share: Tensor, to_gray: Tensor, to_mean: Tensor) -> None:
    """Move each image from or towards a target, then clamp: `(1 - share) * image + share * target`.

    Brightness, contrast and saturation with factor f are this with a share of 1 - f; the targets are black (both
    switches 0), the mean luminance of the image (`to_mean` 1) and the luminance of each pixel (`to_gray` 1).

    Args:
        images: `[N, W, 3, H]`, changed in place.
        share: `[N]`, weight of the target; negative moves away from it.
        to_gray: `[N]`, 0 or 1.
        to_mean: `[N]`, 0 or 1.
    """
    gray = luminance(images)
    mean = gray.mean((1, 2)).mul_(to_mean)
    target = gray.mul_(to_gray.view(-1, 1, 1)).add_(mean.view(-1, 1, 1))
    images.lerp_(target.unsqueeze(2), share.view(-1, 1, 1, 1)).clamp_(0.0, 1.0)


def turn_hue(images: Tensor, turns: Tensor) -> None:
    """Turn the hue of each image in HSV space, in place, without looking at which channel is the greatest.

    With high, low and chroma = high - low of a pixel, let s = (green - blue) / chroma and a = (high - red) / chroma.
    The hue in sixths of a turn, in [-3, 3] from red, is then |s| + a (3 - 2 |s|) with the sign of s: |s| where red is
    the greatest (a = 0), 1 + a where it is between the others (|s| = 1), 3 - |s| where it is the least (a = 1). Back
    from the hue, each channel is low + chroma times a trapezoid around its own hue.

    Args:
        images: `[N, W, 3, H]`, changed in place.
        turns: `[N]`, turns of the hue; 0.5 is the opposite colour.
    """
    red, green, blue = images.unbind(2)
    high = torch.maximum(red, green).maximum(blue)
    low = torch.minimum(red, green).minimum(blue)
    chroma = high - low
    inverse = chroma.clamp_min(_TINY).reciprocal_()
    signed = (green - blue).mul_(inverse)
    away = high.sub_(red).mul_(inverse)
    side = signed.abs()
    hue = torch.addcmul(side, away, side.mul(-2.0).add_(3.0)).copysign_(signed).add_(turns.view(-1, 1, 1), alpha=6.0)
    hue.sub_((hue / 6.0).round_(), alpha=6.0)
    for channel, shape in (
        (red, hue.abs().neg_().add_(2.0)),
        (green, (hue + 1.0).abs_().sub_(1.0)),
        (blue, (hue - 1.0).abs_().sub_(1.0)),
    ):
        torch.addcmul(low, chroma, shape.clamp_(0.0, 1.0), out=channel)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert what is at least as bright as the threshold `[N]`; images `[N, ...]` of any shape."""
    limit = threshold.view(-1, *[1] * (images.dim() - 1))
    return torch.where(images >= limit, 1.0 - images, images)
