"""Schedules: plain functions from progress in [0, 1] to a number."""

import math
from collections.abc import Callable

Schedule = Callable[[float], float]


def cosine(start: float, end: float) -> Schedule:
    """Half a cosine from `start` at progress 0 to `end` at progress 1; exactly the mean of both at 0.5.

    Source: teacher momentum of BYOL and MoCo v3, ratio of SDSSL.
    """
    return lambda progress: end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * progress))


def rise(start: float, end: float, share: float) -> Schedule:
    """Straight from `start` to `end` while progress is below `share`, then `end`."""
    return lambda progress: end if progress >= share else start + (end - start) * progress / share


def constant(progress: float) -> float:
    """1 all the time."""
    return 1.0


def ramp_up(progress: float) -> float:
    """Straight from 0 to 1."""
    return progress


def ramp_down(progress: float) -> float:
    """Straight from 1 to 0."""
    return 1.0 - progress


SCHEDULES: dict[str, Schedule] = {"constant": constant, "ramp_up": ramp_up, "ramp_down": ramp_down}
"""Factors of a loss weight, by the name that settings give them."""


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
