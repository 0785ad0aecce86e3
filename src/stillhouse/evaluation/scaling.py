"""Frozen vectors centered and brought to one size, so that a penalty means the same for every encoder.

Letters: N rows, D width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK_ROWS = 8192


@dataclass(frozen=True)
class Scaling:
    """Centering and scaling, learnt from training rows."""

    mean: Tensor
    """`[D]`."""
    scale: Tensor
    """`[D]`, by which columns are divided: the mean squared norm of a row becomes 1."""
    gram: Tensor
    """Float64 `[D, D]`, covariance of the scaled rows; its trace is 1, or 0 when all rows are equal."""

    def apply(self, rows: Tensor, order: Tensor | None = None) -> Tensor:
        """Rows `[N, D]`, scaled; with `order`, int64 `[M]`, those rows in that order."""
        scaled = rows.new_empty(len(rows) if order is None else len(order), rows.shape[1])
        for start in range(0, len(scaled), CHUNK_ROWS):
            chunk = slice(start, start + CHUNK_ROWS)
            part = rows[chunk] if order is None else rows[order[chunk]]
            torch.div(part - self.mean, self.scale, out=scaled[chunk])
        return scaled


def fit_scaling(rows: Tensor, *, standardize: bool) -> Scaling:
    """Scaling of `[N, D]`.

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
    return Scaling(mean.to(rows), scale.to(rows), gram / scale[:, None] / scale[None])


def _mean(rows: Tensor) -> Tensor:
    total = torch.zeros(rows.shape[1], dtype=torch.float64, device=rows.device)
    for part in torch.split(rows, CHUNK_ROWS):
        total += part.double().sum(dim=0)
    return total / len(rows)
