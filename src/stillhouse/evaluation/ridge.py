"""Least squares onto one-hot classes: a linear probe in closed form, cheap enough to watch a run with."""

import torch
from torch import Tensor
from torch.nn import functional as F

from stillhouse.evaluation.logistic import Linear, damped

CHUNK_ROWS = 8192


def fit_ridge(rows: Tensor, labels: Tensor, num_classes: int, l2: float, gram: Tensor) -> Linear:
    """The optimum of `mean ||W x + b - onehot||^2 + l2 ||W||^2`, bias free.

    Args:
        rows: `[N, D]`.
        labels: int64 `[N]` in [0, C).
        num_classes: C.
        l2: penalty; below the rounding error of `rows` it is raised to it.
        gram: `[D, D]`, covariance of the rows, or of more rows like them.
    """
    cross = torch.zeros(num_classes, rows.shape[1], dtype=torch.float64, device=rows.device)
    for part, answer in zip(torch.split(rows, CHUNK_ROWS), torch.split(labels, CHUNK_ROWS), strict=True):
        cross += F.one_hot(answer, num_classes).to(rows).mT @ part
    prior = torch.bincount(labels, minlength=num_classes).double() / len(rows)
    mean = rows.mean(dim=0, dtype=torch.float64)
    covariance = cross / len(rows) - prior[:, None] * mean
    weight = torch.cholesky_solve(covariance.mT, damped(gram, l2, rows.dtype)).mT
    return Linear(weight, prior - weight @ mean)
