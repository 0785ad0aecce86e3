"""The linear probe: how well one linear layer on frozen vectors tells classes apart.

What has to be chosen (penalty or learning rate) is chosen on a tenth of the TRAINING rows, held out by class; then the
probe is fitted again to all of them. The test rows are never looked at.
Letters: N rows, D width, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from stillhouse.evaluation.axes import Axes, principal_axes
from stillhouse.evaluation.logistic import Linear, fit_logistic, zero_linear
from stillhouse.evaluation.ridge import fit_ridge
from stillhouse.evaluation.split import hold_out
from stillhouse.evaluation.sweep import BATCH_SIZE, fit_sgd

Protocol = Literal["lbfgs", "sgd", "ridge"]

PENALTIES = tuple(10.0**power for power in range(-1, -10, -1))
"""From strong to weak, for rows whose mean squared norm is 1 (see `principal_axes`)."""
LEARNING_RATES = tuple(rate * BATCH_SIZE / 256 for rate in (0.1, 0.3, 1.0, 3.0, 10.0))
HELD_OUT = 0.1
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Probe:
    """A fitted linear probe, and how it was chosen."""

    axes: Axes
    linear: Linear
    setting: str
    """What was chosen: `l2`, for rows of mean squared norm 1, or `learning_rate`."""
    value: float
    held_out: float
    """Accuracy on the held-out training rows with that choice; not a number where no row could be held out."""
    at_edge: bool
    """Whether the choice is an end of the grid and better than the one beside it: something beyond might be best."""

    def classify(self, rows: Tensor) -> Tensor:
        """Class int64 `[N]` of rows `[N, D]`."""
        return self.linear.classify(self.axes.apply(rows))


def fit_probe(
    rows: Tensor,
    labels: Tensor,
    num_classes: int,
    *,
    protocol: Protocol = "lbfgs",
    standardize: bool = False,
    seed: int = 0,
) -> Probe:
    """Choose on a held-out tenth, then fit to all.

    Args:
        rows: `[N, D]`, frozen vectors.
        labels: int64 `[N]` in [0, C).
        num_classes: C.
        protocol: logistic regression by L-BFGS, softmax regression by SGD, or least squares.
        standardize: see `principal_axes`; off by default, as in the published protocols.
        seed: of the held-out tenth and of SGD.
    """
    axes = principal_axes(rows, standardize=standardize)
    kept, held = hold_out(labels, HELD_OUT, seed)
    order = torch.cat([kept, held])  # held-out rows last: both parts are slices of one copy
    turned, labels = axes.apply(rows, order), labels[order]
    fit = _FITS[protocol]
    count, grid = len(kept), LEARNING_RATES if protocol == "sgd" else PENALTIES
    if len(held):
        candidates = fit(turned[:count], labels[:count], num_classes, axes, grid, seed)
        scores = [_accuracy(candidate, turned[count:], labels[count:]) for candidate in candidates]
        best = max(range(len(grid)), key=lambda place: scores[place])  # of equals the first: the stronger penalty
        beside = 1 if best == 0 else best - 1
        held_out, at_edge = scores[best], best in (0, len(grid) - 1) and scores[best] > scores[beside]
    else:
        best, held_out, at_edge = len(grid) // 2, float("nan"), False
    (linear,) = fit(turned, labels, num_classes, axes, grid[best : best + 1], seed)
    return Probe(axes, linear, "learning_rate" if protocol == "sgd" else "l2", grid[best], held_out, at_edge)


def _accuracy(linear: Linear, rows: Tensor, labels: Tensor) -> float:
    """Share of right answers; 0 for a classifier that is not finite."""
    if not torch.isfinite(linear.weight).all():
        return 0.0
    return (linear.classify(rows) == labels).double().mean().item()


_Fit = Callable[[Tensor, Tensor, int, Axes, tuple[float, ...], int], tuple[Linear, ...]]


def _lbfgs(
    rows: Tensor, labels: Tensor, num_classes: int, axes: Axes, grid: tuple[float, ...], seed: int
) -> tuple[Linear, ...]:
    """Along the grid, each optimum is the start of the next."""
    linear, path = zero_linear(rows, num_classes), []
    for l2 in grid:
        linear = fit_logistic(rows, labels, linear, l2=l2, curvature=axes.curvature, tolerance=TOLERANCE)
        path.append(linear)
    return tuple(path)


def _sgd(
    rows: Tensor, labels: Tensor, num_classes: int, axes: Axes, grid: tuple[float, ...], seed: int
) -> tuple[Linear, ...]:
    return fit_sgd(rows, labels, num_classes, grid, seed)


def _ridge(
    rows: Tensor, labels: Tensor, num_classes: int, axes: Axes, grid: tuple[float, ...], seed: int
) -> tuple[Linear, ...]:
    return tuple(fit_ridge(rows, labels, num_classes, l2, axes.curvature) for l2 in grid)


_FITS: dict[Protocol, _Fit] = {"lbfgs": _lbfgs, "sgd": _sgd, "ridge": _ridge}
