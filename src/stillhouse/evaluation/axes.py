"""Frozen vectors in their principal axes: where every linear probe works.

A rotation changes no probe here, as all penalties and starts are the same in every direction, but it makes least
squares a division and logistic regression round.
Letters: N rows, D width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK_ROWS = 8192


@dataclass(frozen=True)
class Axes:
    """Centering, scaling and rotation, learnt from training rows."""

    mean: Tensor
    """`[D]`."""
    scale: Tensor
    """`[D]`, by which columns are divided: mean squared norm becomes 1."""
    rotation: Tensor
    """`[D, D]`, orthogonal."""
    curvature: Tensor
    """Float64 `[D]`, mean square of each column after all that, in rising order."""

    def apply(self, rows: Tensor, order: Tensor | None = None) -> Tensor:
        """Rows `[N, D]` in these axes; with `order`, int64 `[M]`, those rows in that order."""
        turned = rows.new_empty(len(rows) if order is None else len(order), rows.shape[1])
        for start in range(0, len(turned), CHUNK_ROWS):
            chunk = slice(start, start + CHUNK_ROWS)
            part = rows[chunk] if order is None else rows[order[chunk]]
            torch.mm((part - self.mean) / self.scale, self.rotation, out=turned[chunk])
        return turned


def principal_axes(rows: Tensor, *, standardize: bool) -> Axes:
    """Axes of `[N, D]`.

    Columns are centered and all divided by one number, so that the mean squared norm of a row is 1 and a penalty or a
    learning rate means the same for every encoder. With `standardize` each is first divided by its own deviation.
    """
    mean = _mean(rows)
    gram = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64, device=rows.device)
    for part in torch.split(rows, CHUNK_ROWS):
        centered = part - mean.to(rows)
        gram += centered.mT @ centered
    gram /= len(rows)
    variance = gram.diagonal().clone()
    scale = variance.sqrt() if standardize else torch.ones_like(variance)
    scale = torch.where(scale > 0, scale, 1.0)
    total = (variance / scale**2).sum().sqrt()
    scale = scale * (total if total > 0 else 1.0)
    curvature, rotation = torch.linalg.eigh(gram / scale[:, None] / scale[None])
    return Axes(mean.to(rows), scale.to(rows), rotation.to(rows), curvature.clamp(min=0))


def _mean(rows: Tensor) -> Tensor:
    total = torch.zeros(rows.shape[1], dtype=torch.float64, device=rows.device)
    for part in torch.split(rows, CHUNK_ROWS):
        total += part.double().sum(dim=0)
    return total / len(rows)
