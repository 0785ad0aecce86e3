"""L-BFGS for smooth convex functions. Source: Nocedal and Wright, Numerical Optimization, algorithms 3.1 and 7.5.

The line search only halves: in well scaled coordinates the first try, 1, is nearly always taken, at one evaluation. A
step is also taken when decrease and rounding cannot be told apart, so that the gradient reaches its tolerance where a
search that insists on decrease would stop early.
"""

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

HISTORY = 20
DECREASE = 1e-4
MOST_HALVINGS = 40

Convex = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From a point `[P]` to its value and its gradient `[P]`."""


def minimize(function: Convex, start: Tensor, *, tolerance: float, noise: float, max_steps: int) -> Tensor:
    """The point `[P]` at which the gradient's largest entry is at most `tolerance`, or the last one reached.

    Args:
        function: to minimize.
        start: float64 `[P]`.
        tolerance: of the gradient.
        noise: relative rounding error of the value.
        max_steps: limit of the iterations.
    """
    point, (value, slope) = start, function(start)
    pairs: deque[tuple[Tensor, Tensor]] = deque(maxlen=HISTORY)
    for _ in range(max_steps):
        if slope.abs().max() <= tolerance:
            break
        direction = -_curved(slope, pairs)
        length, descent = 1.0, slope @ direction
        for _ in range(MOST_HALVINGS):
            reached = point + length * direction
            below, steep = function(reached)
            if below <= value + DECREASE * length * descent + noise * value.abs():
                break
            length /= 2
        else:
            break
        step, change = reached - point, steep - slope
        if step @ change > torch.finfo(step.dtype).eps * (change @ change):
            pairs.append((step, change))
        point, value, slope = reached, below, steep
    return point


def _curved(slope: Tensor, pairs: deque[tuple[Tensor, Tensor]]) -> Tensor:
    """The inverse Hessian, as far as the last steps have shown it, times the gradient."""
    result, shares = slope.clone(), []
    for step, change in reversed(pairs):
        shares.append((step @ result) / (step @ change))
        result -= shares[-1] * change
    if pairs:
        step, change = pairs[-1]
        result *= (step @ change) / (change @ change)
    for (step, change), share in zip(pairs, reversed(shares), strict=True):
        result += (share - (change @ result) / (step @ change)) * step
    return result
