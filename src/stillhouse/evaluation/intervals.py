"""How sure a measured share is."""

import math

NORMAL_95 = 1.959963984540054


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95 % interval of a share of `successes` among `trials` > 0, inside [0, 1]; Wilson 1927.

    It speaks of the drawing of test images alone, not of the seed of training.
    """
    share, square = successes / trials, NORMAL_95**2
    center = (share + square / (2 * trials)) / (1 + square / trials)
    half = NORMAL_95 * math.sqrt(share * (1 - share) / trials + square / (4 * trials**2)) / (1 + square / trials)
    low = center - half if successes else 0.0  # exact ends, whatever rounding says
    return low, center + half if successes < trials else 1.0
