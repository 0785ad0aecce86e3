"""Does an encoder know an image again in another view of it, among many? Without labels.

Letters: N images, D width.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def recognition(first: Tensor, second: Tensor) -> Tensor:
    """How surely each image is found again by its other view, `[N]`, float64; their mean is 1 at best, 0 by chance.

    All second views stand in a row by their cosine with a first view, once the mean of all vectors was taken off; with
    its own view in place r, counted from 0, an image scores `1 - log(1 + r) / log N`, scaled so that places drawn at
    random score 0 on average. Equals share their places, so that vectors which are all alike score by chance. Both
    directions count, and scores are comparable for equal N only.

    Args:
        first: vectors of one view of each image, `[N, D]`, N > 1.
        second: vectors of another view of the same images, `[N, D]`.
    """
    center = (first.double().mean(0) + second.double().mean(0)) / 2
    one, two = (F.normalize(vectors.double() - center, dim=1) for vectors in (first, second))
    cosines = one @ two.mT
    return (_places(cosines) + _places(cosines.mT)) / 2


def _places(cosines: Tensor) -> Tensor:
    """Scores of the diagonal of `[N, N]` within its rows, `[N]`."""
    count, own = len(cosines), cosines.diagonal()[:, None]
    before = (cosines > own + TINY).sum(1)
    equal = ((cosines - own).abs() <= TINY).sum(1) - 1
    surprise = torch.arange(1, count + 1, dtype=cosines.dtype, device=cosines.device).log()
    sums = torch.cat([surprise.new_zeros(1), surprise.cumsum(0)])  # the mean over the places that equals share
    mean = (sums[before + equal + 1] - sums[before]) / (equal + 1)
    return 1 - mean / surprise.mean()


TINY = 1e-9
"""Cosines this near are equal."""
