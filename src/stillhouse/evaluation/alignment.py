"""Do two views of an image meet, and do different images part? Without labels.

Letters: N images, D width.
Sources: positive and negative alignment per layer as in SDSSL (Jang et al. 2023); alignment and uniformity by Wang and
Isola 2020.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from stillhouse.data.augment import augment
from stillhouse.data.random import permutation
from stillhouse.data.store import ImageStore
from stillhouse.data.views import ViewPlan, asymmetric_pair_for
from stillhouse.evaluation.features import forward
from stillhouse.networks.encoder import Encoder


@dataclass(frozen=True)
class Alignment:
    """Mean squared distances at one depth, between unit vectors unless they were asked for raw."""

    positive: float
    """Between two views of one image; for unit vectors 2 - 2 cos, in [0, 4]."""
    negative: float
    """Between the first views of two different images."""
    uniformity: float
    """Log of the mean `exp(-2 d^2)` between different images, always of unit vectors; from 0 to about -4."""

    @property
    def ratio(self) -> float:
        """How much farther different images are than views of one; not a number when nothing differs."""
        if self.positive > 0:
            return self.negative / self.positive
        return float("inf") if self.negative > 0 else float("nan")


def alignment_views(image_size: int) -> ViewPlan:
    """The second view of the asymmetric pair, twice: the same for every method, so that encoders can be compared.

    Source: the alignment study in the public history of SDSSL's code.
    """
    return ViewPlan(views=(replace(asymmetric_pair_for(image_size).views[1], count=2),))


def pairs_of(
    store: ImageStore, plan: ViewPlan, image_size: int, *, images: int, seed: int, batch_size: int = 256
) -> Iterator[tuple[Tensor, Tensor]]:
    """The first two of `views_of`, whose arguments these are."""
    for first, second, *_ in views_of(store, plan, image_size, images=images, seed=seed, batch_size=batch_size):
        yield first, second


def views_of(
    store: ImageStore, plan: ViewPlan, image_size: int, *, images: int, seed: int, batch_size: int = 256
) -> Iterator[tuple[Tensor, ...]]:
    """The plan's views of stored images, drawn with a seed, in batches.

    Args:
        store: images.
        plan: how views are made.
        image_size: side in pixels.
        images: how many; all of a smaller store.
        seed: of the choice of images and of their views.
        batch_size: images at once.
    """
    for index in torch.split(permutation(seed, 0, len(store))[:images], batch_size):
        yield tuple(augment(store.gather(index), store.sizes[index], index, plan, image_size, seed, 0))


def measure(
    encoder: Encoder, pairs: Iterable[tuple[Tensor, Tensor]], *, normalize: bool = True
) -> tuple[Alignment, ...]:
    """Alignment of every block, first to last.

    Args:
        encoder: network to read; left as it was found.
        pairs: batches of two views of the same images, each `[B, 3, H, W]` in [0, 1].
        normalize: whether vectors are brought to unit length before distances are taken.
    """
    first, second = read(encoder, pairs)
    return tuple(align(one, two, normalize=normalize) for one, two in zip(first, second, strict=True))


def read(encoder: Encoder, pairs: Iterable[tuple[Tensor, Tensor]]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Vectors of every block, `[N, D]` each, of the first views and of the second; the encoder is left as it was."""
    chunks = [tuple(forward(encoder, pair)) for pair in pairs]
    first, second = ([chunk[side] for chunk in chunks] for side in (0, 1))
    return tuple(map(torch.cat, zip(*first, strict=True))), tuple(map(torch.cat, zip(*second, strict=True)))


def align(first: Tensor, second: Tensor, *, normalize: bool = True) -> Alignment:
    """Alignment of two views of N > 1 images.

    Args:
        first: `[N, D]`, one view.
        second: `[N, D]`, the other view of the same images.
        normalize: whether rows are brought to unit length first.
    """
    first, second = first.double(), second.double()
    if normalize:
        first, second = F.normalize(first, dim=1), F.normalize(second, dim=1)
    return Alignment(
        (first - second).square().sum(dim=1).mean().item(),
        _negative(first).item(),
        (uniformity(first) + uniformity(second)).item() / 2,
    )


def uniformity(features: Tensor, scale: float = 2.0) -> Tensor:
    """Log of the mean of `exp(-scale ||x_i - x_j||^2)` over pairs of rows of `[N, D]`, N > 1, at unit length."""
    rows, count = F.normalize(features, dim=1), len(features)
    squared = (2 - 2 * rows @ rows.mT).clamp(min=0).fill_diagonal_(torch.inf)
    return (-scale * squared).flatten().logsumexp(dim=0) - math.log(count * (count - 1))


def _negative(rows: Tensor) -> Tensor:
    """Mean of `||x_i - x_j||^2` over i < j, from sums alone."""
    count = len(rows)
    centered = rows - rows.mean(dim=0)
    return 2 * centered.square().sum() / (count - 1)
