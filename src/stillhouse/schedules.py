"""Schedules: plain functions from progress in [0, 1] to a number."""

import math
from collections.abc import Callable

Schedule = Callable[[float], float]


def cosine(start: float, end: float) -> Schedule:
    """Half a cosine from `start` at progress 0 to `end` at progress 1; exactly the mean of both at 0.5.

    Source: teacher momentum of BYOL and MoCo v3, ratio of SDSSL.
    """
    return lambda progress: end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * progress))


def warmup_cosine(peak: float, warmup: float) -> Schedule:
    """Straight from 0 to `peak` while progress is below `warmup`, then half a cosine back to 0.

    Args:
        peak: highest value.
        warmup: share of training spent rising, in [0, 1).
    """
    fall = cosine(peak, 0.0)

    def value(progress: float) -> float:
        if progress < warmup:
            return peak * progress / warmup
        return fall((progress - warmup) / (1.0 - warmup))

    return value
