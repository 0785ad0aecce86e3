"""What of a colour image a network sees: all of it, its brightness alone, or its colour alone.

Letters: B images, H and W pixels.
"""

from typing import Literal

import torch
from torch import Tensor

Modality = Literal["rgb", "luminance", "chrominance"]

_TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
_EDGE = 6 / 29  # below, the cube root is continued by its tangent


def present(images: Tensor, modality: Modality) -> Tensor:
    """The images as a network with this modality gets them, in three channels, so that any network takes them.

    Args:
        images: RGB in [0, 1], `[B, 3, H, W]`.
        modality: `rgb` are the images themselves; `luminance` is L / 100 three times, in [0, 1]; `chrominance` is
            0.5 + a / 100, 0.5 + b / 100 and 0.5, which say nothing about how bright a pixel is.

    Source: the split of Lab in Tian, Krishnan, Isola 2020 (CMC and CRD).
    """
    if modality == "rgb":
        return images
    lab = to_lab(images)
    lightness, colour = lab[:, :1], lab[:, 1:]
    if modality == "luminance":
        return (lightness / 100).expand(-1, 3, -1, -1)
    return torch.cat([colour / 100, torch.zeros_like(lightness)], dim=1) + 0.5


def to_lab(images: Tensor) -> Tensor:
    """CIE Lab of sRGB images under the white that R = G = B = 1 has; L in [0, 100], a and b 0 where a pixel is gray.

    Args:
        images: RGB in [0, 1], `[B, 3, H, W]`.

    Returns:
        L, a, b, `[B, 3, H, W]`; in float32 at least.

    Source: IEC 61966-2-1 (sRGB), CIE 15 (Lab).
    """
    images = images.to(torch.promote_types(images.dtype, torch.float32))
    bent = ((images.clamp_min(0.04045) + 0.055) / 1.055).pow(2.4)
    linear = torch.where(images <= 0.04045, images / 12.92, bent)
    x, y, z = (_root(_mixed(linear, shares)) for shares in _TO_XYZ)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def _mixed(linear: Tensor, shares: tuple[float, float, float]) -> Tensor:
    """A weighted mean of the channels, `[B, H, W]`; exactly the channel where all three are the same."""
    red, green, blue = linear.unbind(1)
    total = sum(shares)
    return green + (shares[0] / total) * (red - green) + (shares[2] / total) * (blue - green)


def _root(values: Tensor) -> Tensor:
    straight = values / (3 * _EDGE**2) + 4 / 29
    return torch.where(values > _EDGE**3, values.clamp_min(_EDGE**3).pow(1 / 3), straight)
