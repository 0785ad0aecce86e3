"""Is what was exported the encoder it came from? Both are shown the same images.

Letters: N images, D width.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from stillhouse.errors import RunError

Precision = Literal["float32", "float16", "int8"]
EQUALLY_NEAR = 1e-6
"""Cosines that differ by less are the same: another order of additions may exchange such neighbours."""


@dataclass(frozen=True)
class Agreement:
    """How close one output of the exported network is to the live vectors."""

    name: str
    max_difference: float
    """Largest absolute difference of any value."""
    largest: float
    """Largest absolute value of the live vectors."""
    cosine: float
    """Mean cosine between the two vectors of an image."""
    worst_cosine: float
    neighbours: float
    """Share of images that have the same nearest other image among the N; 1 where there is no choice."""
    images: int


@dataclass(frozen=True)
class Tolerance:
    """What an exported network may differ by before it is refused."""

    difference: float
    """Largest absolute difference, in units of the largest live value."""
    cosine: float
    """Least mean cosine."""


TOLERANCES: dict[str, Tolerance] = {
    "same program": Tolerance(1e-5, 0.999999),  # the same operations by the same library
    "float32": Tolerance(1e-4, 0.99999),  # the same numbers added up in another order, some 24 bits each
    "float16": Tolerance(2e-2, 0.9995),  # 11 bits: every value is rounded by up to 5e-4 of itself, block after block
    "int8": Tolerance(float("inf"), 0.95),  # 256 levels per tensor: single values may be far off, directions not
}


def compare(name: str, live: Tensor, exported: Tensor) -> Agreement:
    """Measure two tensors `[N, D]` of the same images against each other."""
    live, exported = live.double(), exported.double()
    cosines = F.cosine_similarity(live, exported, dim=1)
    cosines = cosines.masked_fill((live == exported).all(dim=1), 1.0)  # of two zeros, too
    return Agreement(
        name=name,
        max_difference=(live - exported).abs().max().item(),
        largest=live.abs().max().item(),
        cosine=cosines.mean().item(),
        worst_cosine=cosines.min().item(),
        neighbours=_same_neighbours(live, exported),
        images=len(live),
    )


def insist(agreement: Agreement, allowed: Tolerance) -> None:
    """Raise `RunError`, with what was measured, when an output is further from the live one than is allowed."""
    limit = allowed.difference * agreement.largest if agreement.max_difference else 0.0
    if agreement.max_difference <= limit and agreement.cosine >= allowed.cosine:  # false for NaN
        return
    raise RunError(
        f"export: output {agreement.name} differs from the live encoder by up to {agreement.max_difference:.2g} "
        f"(allowed {limit:.2g}) at a mean cosine of {agreement.cosine:.6f} (allowed {allowed.cosine:g}) on "
        f"{agreement.images} images; nothing was written; choose another --precision or another format"
    )


def _same_neighbours(live: Tensor, exported: Tensor) -> float:
    if len(live) < 3:
        return 1.0
    found = _cosines(exported).argmax(dim=1, keepdim=True)
    cosines = _cosines(live)
    same = cosines.gather(1, found) >= cosines.max(dim=1, keepdim=True).values - EQUALLY_NEAR
    return same.double().mean().item()


def _cosines(vectors: Tensor) -> Tensor:
    unit = F.normalize(vectors, dim=1)
    return (unit @ unit.mT).fill_diagonal_(-torch.inf)
