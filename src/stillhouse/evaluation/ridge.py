"""Least squares onto one-hot classes: a linear probe in closed form, cheap enough to watch a run with."""

import torch
from torch import Tensor
from torch.nn import functional as F

from stillhouse.evaluation.logistic import Linear

CHUNK_ROWS = 8192


def fit_ridge(rows: Tensor, labels: Tensor, num_classes: int, l2: float, curvature: Tensor) -> Linear:
    """The optimum of `mean ||W x + b - onehot||^2 + l2 ||W||^2`, bias free; a division in principal axes.

    Args:
        rows: `[N, D]` in principal axes, so that columns are uncorrelated; their mean need not be zero.
        labels: int64 `[N]` in [0, C).
        num_classes: C.
        l2: penalty.
        curvature: `[D]`, mean square of each column around zero.
    """
    cross = torch.zeros(num_classes, rows.shape[1], dtype=torch.float64, device=rows.device)
    for part, answer in zip(torch.split(rows, CHUNK_ROWS), torch.split(labels, CHUNK_ROWS), strict=True):
        cross += F.one_hot(answer, num_classes).to(rows).mT @ part
    prior = torch.bincount(labels, minlength=num_classes).double() / len(rows)
    mean = rows.mean(dim=0, dtype=torch.float64)
    weight = (cross / len(rows) - prior[:, None] * mean) / (curvature + l2)
    return Linear(weight, prior - weight @ mean)
