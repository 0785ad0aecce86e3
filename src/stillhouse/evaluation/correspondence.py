"""Do the regions of an image find their places again in a changed copy of it? Without labels.

Letters: N images, T regions in n rows and n columns, D width.
Source: Li et al. 2022 (EsViT), correspondence learning, as in the official code.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from stillhouse.data.augment import augment, center_view
from stillhouse.data.random import permutation
from stillhouse.data.store import ImageStore
from stillhouse.data.views import View, ViewPlan
from stillhouse.errors import SettingsError
from stillhouse.networks.encoder import Encoder, device_of, num_regions, undisturbed

NUM_PAIRS = 10

COPIES = ViewPlan(
    views=(
        View(min_area=1.0, aspect=(1.0, 1.0), flip=0.0, jitter=0.0, grayscale=0.0, blur=0.0),
        View(
            min_area=1.0, aspect=(1.0, 1.0), flip=1.0, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1,
            grayscale=1.0, blur=0.0,
        ),
    )
)  # fmt: skip
"""The image itself, and its mirror image in gray whose colours had changed before."""


@dataclass(frozen=True)
class Correspondence:
    """How well regions of two versions of an image find each other; means over images.

    Comparable between encoders with as many regions only: on a coarser grid a hit is easier.
    """

    images: int
    regions: int
    """T, in each version."""
    accuracy: float
    """Share of the ten most alike pairs (of all pairs, where T is smaller) that show the same place; in [0, 1]."""
    distance: float
    """Pixels between the place that was found and the right one, in those pairs."""
    similarity: float
    """Cosine of the tenth pair."""

    @property
    def sentence(self) -> str:
        """The same in words."""
        return (
            f"{100 * self.accuracy:.1f} % of the {min(NUM_PAIRS, self.regions)} most alike pairs show the same place, "
            f"{self.distance:.1f} px apart on average, the last of them with a cosine of {self.similarity:.2f}"
        )


def correspondence(
    encoder: Encoder, store: ImageStore, *, images: int, seed: int = 0, batch_size: int = 256
) -> Correspondence:
    """Match the regions of stored images with those of changed copies.

    Args:
        encoder: network to read; left as it was found.
        store: at least one image.
        images: how many are drawn; all of a smaller store.
        seed: of the choice of images and of the changes.
        batch_size: images at once.

    Raises:
        SettingsError: the encoder's regions are no square grid, or it has only one.
    """
    side = grid_side(encoder)
    found = []
    for index in torch.split(permutation(seed, 0, len(store))[:images], batch_size):
        first, second = _copies(store, index, encoder.image_size, seed)
        with undisturbed(encoder):
            pair = [encoder.features(view.to(device_of(encoder))).tokens for view in (first, second)]
        found.append(compare(*pair))
    accuracy, distance, similarity = torch.cat(found).double().mean(0).tolist()
    pixels = encoder.image_size / side
    return Correspondence(min(images, len(store)), side**2, accuracy, pixels * distance, similarity)


def compare(first: Tensor, second: Tensor) -> Tensor:
    """For each image the share of right pairs, their mean distance in cells, and the cosine of the last of them.

    For each region of an image the one of highest cosine in its mirror image is taken, then the ten most alike of these
    pairs; of equals the first. In the mirror image, column j shows what was in column n - 1 - j.

    Args:
        first: regions of images, `[N, T, D]`, row by row.
        second: regions of their mirror images, `[N, T, D]`.

    Returns:
        `[N, 3]`, float32.
    """
    with torch.autocast(first.device.type, enabled=False):
        cosines = F.normalize(first.float(), dim=2) @ F.normalize(second.float(), dim=2).mT
    best, partner = cosines.max(dim=2)
    order = best.sort(dim=1, descending=True, stable=True).indices[:, :NUM_PAIRS]
    side = math.isqrt(first.shape[1])
    row, column = order // side, side - 1 - order % side
    partner = partner.gather(1, order)
    apart = torch.hypot((partner // side - row).float(), (partner % side - column).float())
    return torch.stack([(apart == 0).float().mean(1), apart.mean(1), best.gather(1, order)[:, -1]], dim=1)


def grid_side(encoder: Encoder) -> int:
    """Regions in a row of the last map.

    Raises:
        SettingsError: they are no square grid, or there is only one.
    """
    regions = num_regions(encoder)
    side = math.isqrt(regions)
    if side < 2 or side * side != regions:
        raise SettingsError(
            f"evaluation.correspondence_images: this encoder's regions, {regions} at {encoder.image_size} px, are no "
            "square grid of four or more, on which places can be compared; set it to 0"
        )
    return side


def _copies(store: ImageStore, index: Tensor, image_size: int, seed: int) -> tuple[Tensor, ...]:
    """The central view and its changed copy, `[N, 3, s, s]` each."""
    view = center_view(store.gather(index), image_size)
    pixels = view.mul(255.0).round_().byte().permute(0, 2, 1, 3).contiguous()
    return augment(pixels, torch.full((len(index), 2), image_size), index, COPIES, image_size, seed, 0)
