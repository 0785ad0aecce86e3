"""The linear probe: how well one linear layer on frozen vectors tells classes apart.

What has to be chosen (penalty or learning rate) is chosen on a tenth of the TRAINING rows, held out by class, or on
several such tenths where they are small; then the probe is fitted again to all rows. The test rows are never looked at.
Letters: N rows, D width, C classes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from stillhouse.evaluation.logistic import Linear, fit_logistic, zero_linear
from stillhouse.evaluation.ridge import fit_ridge
from stillhouse.evaluation.scaling import Scaling, fit_scaling
from stillhouse.evaluation.split import hold_out
from stillhouse.evaluation.sweep import BATCH_SIZE, fit_sgd

Protocol = Literal["lbfgs", "sgd", "ridge"]

PENALTIES = tuple(10.0**power for power in range(-1, -10, -1))
"""From strong to weak, for rows whose mean squared norm is 1 (see `fit_scaling`); the weakest are tried only where
weaker still helps, since three worse ones in a row end the search."""
LEARNING_RATES = tuple(rate * BATCH_SIZE / 256 for rate in (0.1, 0.3, 1.0, 3.0, 10.0))
HELD_OUT = 0.1
CHOOSING_TOLERANCE, TOLERANCE = 1e-3, 1e-4
PATIENCE = 3
CHOSEN_BY, DRAWS = 200, 10
"""A choice made by fewer held-out rows than the first is made by several draws of them, the second at most."""


@dataclass(frozen=True)
class Probe:
    """A fitted linear probe, and how it was chosen."""

    scaling: Scaling
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
        return self.linear.classify(self.scaling.apply(rows))


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
        standardize: see `fit_scaling`; off by default, as in the published protocols.
        seed: of the held-out tenth and of SGD.
    """
    scaling = fit_scaling(rows, standardize=standardize)
    grid, fit = LEARNING_RATES if protocol == "sgd" else PENALTIES, _FITS[protocol]
    kept, held = hold_out(labels, HELD_OUT, seed)
    order = torch.cat([kept, held])  # held-out rows last: both parts are slices of one copy
    whole = _Problem(scaling.apply(rows, order), labels[order], num_classes, scaling.gram, seed, TOLERANCE)
    scores = _held_out_scores(whole, len(held), grid, fit) if len(held) else []
    best = scores.index(max(scores)) if scores else len(grid) // 2  # of equals the first: the stronger penalty
    (linear,) = fit(whole, grid[best : best + 1])
    at_edge = len(scores) == len(grid) and best == len(grid) - 1 and scores[best] > scores[-2]
    at_edge = at_edge or (best == 0 and len(scores) > 1 and scores[0] > scores[1])
    return Probe(
        scaling=scaling,
        linear=linear,
        setting="learning_rate" if protocol == "sgd" else "l2",
        value=grid[best],
        held_out=max(scores, default=float("nan")),
        at_edge=at_edge,
    )


@dataclass(frozen=True)
class _Problem:
    """Scaled rows `[N, D]`, their labels, and the covariance of all of them."""

    rows: Tensor
    labels: Tensor
    num_classes: int
    gram: Tensor
    seed: int
    tolerance: float


_Fit = Callable[[_Problem, Sequence[float]], Iterator[Linear]]


def _held_out_scores(whole: _Problem, count: int, grid: Sequence[float], fit: _Fit) -> list[float]:
    """Accuracies on the last `count` rows along the grid, as far as it was tried; of few the mean over more draws."""
    draws = min(DRAWS, -(-CHOSEN_BY // count))
    stop = len(whole.rows) - count
    found = [_scored(whole, slice(stop), slice(stop, None), grid, fit, len(grid) if draws > 1 else PATIENCE)]
    for number in range(1, draws):
        kept, held = hold_out(whole.labels, HELD_OUT, whole.seed + number)
        found += [_scored(whole, kept, held, grid, fit, len(grid))]
    return [sum(scores) / draws for scores in zip(*found, strict=True)]


def _scored(
    whole: _Problem, kept: Tensor | slice, held: Tensor | slice, grid: Sequence[float], fit: _Fit, patience: int
) -> list[float]:
    shown = replace(whole, rows=whole.rows[kept], labels=whole.labels[kept], tolerance=CHOOSING_TOLERANCE)
    return _scores(fit(shown, grid), whole.rows[held], whole.labels[held], patience)


def _scores(candidates: Iterator[Linear], rows: Tensor, labels: Tensor, patience: int) -> list[float]:
    """Accuracies of the candidates, until `patience` of them in a row were worse than the best."""
    scores: list[float] = []
    for candidate in candidates:
        scores.append(_accuracy(candidate, rows, labels))
        if len(scores) - scores.index(max(scores)) > patience and max(scores[-patience:]) < max(scores):
            break
    return scores


def _accuracy(linear: Linear, rows: Tensor, labels: Tensor) -> float:
    """Share of right answers; 0 for a classifier that is not finite."""
    if not torch.isfinite(linear.weight).all():
        return 0.0
    return (linear.classify(rows) == labels).double().mean().item()


def _lbfgs(problem: _Problem, grid: Sequence[float]) -> Iterator[Linear]:
    """Along the grid, each optimum is the start of the next."""
    linear = zero_linear(problem.rows, problem.num_classes)
    for l2 in grid:
        linear = fit_logistic(
            problem.rows, problem.labels, linear, l2=l2, gram=problem.gram, tolerance=problem.tolerance
        )
        yield linear


def _sgd(problem: _Problem, grid: Sequence[float]) -> Iterator[Linear]:
    yield from fit_sgd(problem.rows, problem.labels, problem.num_classes, tuple(grid), problem.seed)


def _ridge(problem: _Problem, grid: Sequence[float]) -> Iterator[Linear]:
    for l2 in grid:
        yield fit_ridge(problem.rows, problem.labels, problem.num_classes, l2, problem.gram)


_FITS: dict[Protocol, _Fit] = {
    "lbfgs": _lbfgs,
    "sgd": _sgd,
    "ridge": _ridge,
}
