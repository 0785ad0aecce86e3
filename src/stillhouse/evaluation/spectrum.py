"""How many directions carry what an encoder says: estimates of quality that need no labels.

Compare them between encoders of one width and one kind of training only.

Letters: N images, q views of each, D width.
Sources: RankMe by Garrido et al. 2023; alpha-ReQ by Agrawal et al. 2022; LiDAR by Thilak et al. 2024.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

SMALL = 1e-7
"""Added to every share of RankMe, as published for float32."""
WITHIN = 1e-4
"""Added to the variance within images, in units of its mean, so that it can be inverted."""
FIRST, LAST = 11, 100
"""Eigenvalues that alpha-ReQ fits, counted from 1."""


@dataclass(frozen=True)
class PowerLaw:
    """How fast the eigenvalues of a covariance fall: `l_i ~ i^-alpha`."""

    alpha: float
    """Near 1 tends to go with good transfer; far above few directions dominate, far below is noise."""
    fit: float
    """Share of the variance of the logarithms that the line explains; distrust alpha below 0.9."""


def rankme(features: Tensor, *, center: bool = False) -> float:
    """Exponential of the entropy of the singular values of `[N, D]`, between 1 and min(N, D).

    Unlike `health.effective_rank` it is of singular values, not of their squares, and as published not centred: a mean
    which all vectors share counts as a direction.

    Args:
        features: vectors.
        center: whether the mean is taken off first.
    """
    rows = features.double()
    values = torch.linalg.svdvals(rows - rows.mean(0) if center else rows)
    shares = values / values.sum() + SMALL
    return math.exp(-(shares * shares.log()).sum().item())


def alpha_req(features: Tensor) -> PowerLaw:
    """Slope of the logarithms of the eigenvalues 11 to 100 of the centred covariance of `[N, D]`.

    Each is weighed by one over its number. Not a number where there are fewer than 12 that are not zero.
    """
    rows = features.double()
    rows = rows - rows.mean(0)
    values = torch.linalg.svdvals(rows).square()
    values = values[values > values[0] * torch.finfo(values.dtype).eps * max(rows.shape)][FIRST - 1 : LAST]
    if len(values) < 2:
        return PowerLaw(math.nan, math.nan)
    number = torch.arange(FIRST, FIRST + len(values), dtype=values.dtype, device=values.device)
    x, y, weight = number.log(), values.log(), 1 / number
    x, y = (side - (weight * side).sum() / weight.sum() for side in (x, y))
    slope = (weight * x * y).sum() / (weight * x * x).sum()
    left, total = (weight * (y - slope * x).square()).sum(), (weight * y.square()).sum()
    return PowerLaw(-slope.item(), 1 - (left / total).item() if total > 0 else math.nan)


def lidar(views: Tensor, *, within: float = WITHIN) -> float:
    """Effective rank of what tells images apart, measured in the scatter of their own views; between 1 and D.

    It does not see scale: noise alone scores near D. Read it beside alignment, at equal N, q and D only.

    Args:
        views: vectors `[N, q, D]` of q > 1 views of each of N > D images.
        within: added to the scatter within images, in units of its mean variance (the paper adds a fixed number).
    """
    count, each, dim = views.shape
    rows = views.double()
    means = rows.mean(1)
    inner = (rows - means[:, None]).flatten(0, 1)
    inner = inner.mT @ inner / (count * (each - 1))
    inner = inner + within * inner.diagonal().mean() * torch.eye(dim, dtype=rows.dtype, device=rows.device)
    outer = means - means.mean(0)
    outer = outer.mT @ outer / (count - 1)
    values, directions = torch.linalg.eigh(inner)
    values = values.clamp(min=torch.finfo(values.dtype).tiny)
    whitened = (directions / values.sqrt()).mT @ outer @ (directions / values.sqrt())
    found = torch.linalg.eigvalsh(whitened).clamp(min=0)
    return math.exp(torch.special.entr(found / found.sum()).sum().item())
