"""Mean and deviation of the cores of several seeds, as steps over time or over bytes."""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stillhouse.report.simulation.records import Moment, Run
from stillhouse.report.simulation.table import Spread

NUM_POINTS = 300  # of one line


@dataclass(frozen=True)
class Steps:
    """From every `x` on, until the next one, the mean over seeds and its deviation (0 with one seed)."""

    x: tuple[float, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]


def averaged(runs: Sequence[Run], place: Callable[[Moment], float], until: float) -> Steps:
    """Test accuracy over what `place` measures, from 0 to `until`; a run that is over keeps its last core."""
    lines = [([place(moment) for moment in run.history], run.history) for run in runs]
    places = sorted({0.0, until, *(x for xs, _ in lines for x in xs if x <= until)})
    every = math.ceil(len(places) / NUM_POINTS)
    kept = [x for number, x in enumerate(places) if number % every == 0 or x == until]
    spreads = [Spread(tuple(history[bisect_right(xs, x) - 1].test for xs, history in lines)) for x in kept]
    deviations = (spread.deviation for spread in spreads)
    return Steps(
        tuple(kept),
        tuple(spread.mean for spread in spreads),
        tuple(deviation if math.isfinite(deviation) else 0.0 for deviation in deviations),
    )
