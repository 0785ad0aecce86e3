"""Is an encoder still saying different things about different images? Answered without labels.

Letters: N images, D width.
Sources: spread as SimSiam (Chen and He 2021) watches it; effective rank by Roy and Vetterli 2007.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

WEAK_SPREAD, COLLAPSED_SPREAD = 0.3, 0.05
WEAK_RANK, COLLAPSED_RANK = 3.0, 1.5


@dataclass(frozen=True)
class Health:
    """Three label-free numbers about vectors `[N, D]`, and what they mean."""

    images: int
    dim: int
    spread: float
    """1 when the directions fill the space evenly, 0 when all vectors point the same way."""
    effective_rank: float
    """How many directions carry the differences between images, between 1 and D."""
    mean_cosine: float
    """Mean cosine between two different images; 1 when all are the same."""

    @property
    def level(self) -> str:
        """`healthy`, `weak`, `collapsed`, or `unknown` when there is nothing to compare."""
        limit = min(self.dim, self.images - 1) / 2  # what so few images or dimensions can reach must not raise an alarm
        if self.images < 2:
            return "unknown"
        if not self.spread >= COLLAPSED_SPREAD or self.effective_rank < min(COLLAPSED_RANK, limit):
            return "collapsed"
        if self.spread < WEAK_SPREAD or self.effective_rank < min(WEAK_RANK, limit):
            return "weak"
        return "healthy"

    @property
    def sentence(self) -> str:
        """The verdict in words, beginning with the level."""
        numbers = f"spread {self.spread:.2f}, {self.effective_rank:.1f} of {self.dim} directions in use"
        if self.level == "unknown":
            return "unknown: fewer than two images to compare"
        if self.level == "healthy":
            return f"healthy: different images give different vectors ({numbers})"
        narrow = self.spread >= (COLLAPSED_SPREAD if self.level == "collapsed" else WEAK_SPREAD)
        cause = "images differ along few directions only" if narrow else "all images give nearly the same vector"
        if self.level == "weak":
            cause = cause.replace("all images give nearly the same vector", "different images give similar vectors")
        return f"{self.level}: {cause} ({numbers})"


def examine(features: Tensor) -> Health:
    """Measure vectors `[N, D]` of N different images; in float64, without gradient, on their own device."""
    features = features.detach().double()
    return Health(
        images=len(features),
        dim=features.shape[1],
        spread=spread(features).item(),
        effective_rank=effective_rank(features).item(),
        mean_cosine=mean_cosine(features).item(),
    )


def spread(features: Tensor) -> Tensor:
    """Mean deviation of the coordinates of unit vectors, times `sqrt(D)`; `[N, D]` to a number in [0, 1].

    Not centered on purpose: a common vector that drowns the differences is the collapse this number is there to see.
    """
    deviation: Tensor = F.normalize(features, dim=1).std(dim=0, correction=0).mean()
    return deviation * float(features.shape[1] ** 0.5)


def effective_rank(features: Tensor) -> Tensor:
    """Exponential of the entropy of the covariance eigenvalues of `[N, D]`; 1 to `min(D, N - 1)`, 0 if all equal."""
    centered = features - features.mean(dim=0)
    gram = centered @ centered.mT if len(centered) < centered.shape[1] else centered.mT @ centered
    if not torch.isfinite(gram).all():
        return gram.new_tensor(torch.nan)
    eigenvalues: Tensor = torch.linalg.eigvalsh(gram).clamp(min=0)
    total = eigenvalues.sum()
    share = eigenvalues / total.clamp(min=torch.finfo(total.dtype).tiny)
    rank: Tensor = torch.special.entr(share).sum().exp()
    return rank * (total > 0)


def mean_cosine(features: Tensor) -> Tensor:
    """Mean cosine over all pairs of different rows of `[N, D]`; in [-1, 1], not a number for a single row."""
    count = len(features)
    total = F.normalize(features, dim=1).sum(dim=0)
    square: Tensor = total @ total
    return (square - count) / (count * (count - 1))
