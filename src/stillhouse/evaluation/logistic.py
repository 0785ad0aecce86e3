"""Multinomial logistic regression to its optimum.

Minimized is `mean CE + l2 / 2 * ||W||^2` with the bias free; scikit-learn's C is `1 / (l2 * N)`.
Letters: N rows, D width, C classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from stillhouse.evaluation.descent import minimize

CHUNK_BYTES = 2**20  # rows worked on at once fit in a core's own cache, so they come from memory once per evaluation


@dataclass(frozen=True)
class Linear:
    """A linear classifier: `weight @ row + bias`."""

    weight: Tensor
    """`[C, D]`."""
    bias: Tensor
    """`[C]`."""

    def logits(self, rows: Tensor) -> Tensor:
        """Scores `[N, C]` of rows `[N, D]`."""
        return F.linear(rows, self.weight.to(rows), self.bias.to(rows))

    def classify(self, rows: Tensor) -> Tensor:
        """Class int64 `[N]` of the highest score."""
        return self.logits(rows).argmax(dim=1)


def zero_linear(rows: Tensor, num_classes: int) -> Linear:
    """The classifier that gives every class the same score, in float64."""
    weight = torch.zeros(num_classes, rows.shape[1], dtype=torch.float64, device=rows.device)
    return Linear(weight, weight.new_zeros(num_classes))


def cross_entropy(rows: Tensor, labels: Tensor, linear: Linear) -> tuple[Tensor, Linear]:
    """Mean cross-entropy and its gradient, by formula and in chunks; sums are kept in float64.

    Args:
        rows: `[N, D]`.
        labels: int64 `[N]` in [0, C).
        linear: classifier.
    """
    weight, bias = linear.weight.to(rows), linear.bias.to(rows)[:, None]
    weight_slope, bias_slope = torch.zeros_like(linear.weight), torch.zeros_like(linear.bias)
    loss = linear.bias.new_zeros(())
    size = max(64, CHUNK_BYTES // (rows.element_size() * max(1, rows.shape[1])))
    for part, answer in zip(torch.split(rows, size), torch.split(labels, size), strict=True):
        error = F.log_softmax(torch.addmm(bias, weight, part.mT), dim=0)  # [C, n]: three times as fast as [n, C]
        loss -= error.gather(0, answer[None]).sum()
        error.exp_().scatter_add_(0, answer[None], error.new_full((1, len(part)), -1.0))
        weight_slope += error @ part
        bias_slope += error.sum(dim=1)
    return loss / len(rows), Linear(weight_slope / len(rows), bias_slope / len(rows))


def fit_logistic(
    rows: Tensor,
    labels: Tensor,
    start: Linear,
    *,
    l2: float,
    gram: Tensor,
    tolerance: float,
    max_steps: int = 1000,
) -> Linear:
    """The optimum, by L-BFGS.

    The search runs in coordinates in which the curvature at equal probabilities, `gram / C + l2`, is the identity: a
    few dozen evaluations instead of thousands where features are correlated. The optimum does not depend on it.

    Args:
        rows: `[N, D]`; float64 for more than six digits.
        labels: int64 `[N]` in [0, C).
        start: classifier to begin with, for instance of a neighbouring `l2`.
        l2: penalty.
        gram: `[D, D]`, covariance of the rows, or of more rows like them.
        tolerance: largest entry at the end of the gradient in those coordinates.
        max_steps: limit of the iterations.
    """
    num_classes, dim = start.weight.shape
    root, sideways = damped(gram / num_classes, l2, rows.dtype), num_classes**0.5
    inverse = torch.linalg.solve_triangular(root, torch.eye(dim, dtype=root.dtype, device=root.device), upper=False)

    def unpack(point: Tensor) -> Linear:
        table = point.view(num_classes, dim + 1)
        return Linear(table[:, :dim] @ inverse, table[:, dim] * sideways)

    def function(point: Tensor) -> tuple[Tensor, Tensor]:
        here = unpack(point)
        loss, slope = cross_entropy(rows, labels, here)
        slopes = torch.cat([(slope.weight + l2 * here.weight) @ inverse.mT, slope.bias[:, None] * sideways], dim=1)
        return loss + l2 / 2 * here.weight.square().sum(), slopes.flatten()

    first = torch.cat([start.weight @ root, start.bias[:, None] / sideways], dim=1).flatten()
    noise = torch.finfo(rows.dtype).eps
    return unpack(minimize(function, first, tolerance=tolerance, noise=noise, max_steps=max_steps))


def damped(gram: Tensor, l2: float, dtype: torch.dtype) -> Tensor:
    """Lower triangular root `[D, D]` of `gram + l2`, with as much more as the rounding of `dtype` may have spoilt."""
    damping = l2 + torch.finfo(dtype).eps * gram.trace()
    root: Tensor = torch.linalg.cholesky(gram + damping * torch.eye(len(gram), dtype=gram.dtype, device=gram.device))
    return root
