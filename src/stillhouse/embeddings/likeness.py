"""Do two images show the same picture? A second look, at their pixels.

Letters: N images, P pairs, G side of a gray picture.
"""

from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from stillhouse.data.store import ImageStore

GRAY_SIZE, REACH = 32, 2
"""Side of the gray pictures that are compared, and the largest shift between two, along both sides."""
SURELY_OTHER = 0.8
"""Below this at half the size, a pair is not looked at again."""
LUMINANCE = (0.299, 0.587, 0.114)
BATCH_IMAGES, BATCH_PAIRS = 1024, 4096


class Likeness:
    """Gray pictures of all images of a store, small enough to be held: 1 KiB each.

    Args:
        store: the images.
    """

    def __init__(self, store: ImageStore) -> None:
        weights = torch.tensor(LUMINANCE).view(3, 1)
        self.gray = torch.empty(len(store), GRAY_SIZE, GRAY_SIZE, dtype=torch.uint8)
        start = 0
        for pixels in store.batches(torch.arange(len(store)).split(BATCH_IMAGES)):
            bright = (pixels.cpu().float() * weights).sum(2).unsqueeze(1)
            small = F.interpolate(bright, (GRAY_SIZE, GRAY_SIZE), mode="bilinear", antialias=True)
            self.gray[start : start + len(small)] = small.squeeze(1).round().clamp(0, 255).to(torch.uint8)
            start += len(small)

    @cached_property
    def _half(self) -> Tensor:
        """The same at half the size, float32: enough to tell most pairs apart."""
        return torch.cat([F.avg_pool2d(part.unsqueeze(1).float(), 2) for part in self.gray.split(BATCH_IMAGES)])[:, 0]

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        """Correlation of the pictures of P pairs, the best over small shifts; `[P]` in [-1, 1].

        Neither brightness nor contrast counts. Pairs that are surely others are told roughly.

        Args:
            first: rows, int64 `[P]`.
            second: rows, int64 `[P]`.
        """
        found = [self._compare(*pair) for pair in self._batches(first, second)]
        return torch.cat([torch.empty(0), *found])

    def _compare(self, first: Tensor, second: Tensor) -> Tensor:
        found = shifted_correlation(self._half[first], self._half[second], REACH // 2)
        close = (found >= SURELY_OTHER).nonzero().squeeze(1)
        gray = self.gray[first[close]].float(), self.gray[second[close]].float()
        return found.index_copy(0, close, shifted_correlation(*gray, REACH))

    @staticmethod
    def _batches(first: Tensor, second: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(first.split(BATCH_PAIRS), second.split(BATCH_PAIRS), strict=True)


def shifted_correlation(first: Tensor, second: Tensor, reach: int) -> Tensor:
    """The middle of one picture beside every equally large window of the other: the best correlation, `[P]`.

    Args:
        first: gray pictures, float `[P, G, G]`.
        second: likewise.
        reach: pixels around the middle.

    Returns:
        Pearson's correlation, in [-1, 1]; 0 where one of both is of one gray.
    """
    side = first.shape[-1] - 2 * reach
    middle = _standardized(first[:, reach : reach + side, reach : reach + side])
    best = middle.new_full((len(first),), -1.0)
    for down in range(2 * reach + 1):
        for right in range(2 * reach + 1):
            window = _standardized(second[:, down : down + side, right : right + side])
            best = torch.maximum(best, (middle * window).sum(1))
    return best


def _standardized(pictures: Tensor) -> Tensor:
    """Zero mean and unit length, `[P, n]`."""
    flat = pictures.flatten(1)
    return F.normalize(flat - flat.mean(1, keepdim=True), dim=1, eps=1e-3)
