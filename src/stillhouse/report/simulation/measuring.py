"""Numbers about one run, from its records; accuracies are shares and times virtual seconds."""

import math
import re
import statistics
from bisect import bisect_right
from collections.abc import Callable, Sequence

from stillhouse.report.charts import finite
from stillhouse.report.simulation.records import Moment, Run, Study
from stillhouse.report.simulation.table import Spread

NUMBERS = re.compile(r"[-+]?\d[\d.,]*(e[-+]?\d+)?")
NOISE = 1e-9  # of adding floats


def each(runs: Sequence[Run], value: Callable[[Run], float]) -> Spread:
    """A number of every run."""
    return Spread(tuple(map(value, runs)))


def gain(run: Run) -> float:
    """Test accuracy at the end over that at the start."""
    return run.end.test - run.start.test


def mean(values: Sequence[float]) -> float:
    """Of those that are finite; not a number without any."""
    found = finite(values)
    return statistics.fmean(found) if found else math.nan


def accepted(run: Run, attack: str) -> float:
    """Share of the returns of users with this attack (empty: honest ones) that were applied."""
    states = [visit.state for visit in run.visits if run.attacks[visit.user] == attack and visit.state != "lost"]
    return states.count("applied") / len(states) if states else math.nan


def backdoor(run: Run) -> float:
    """Share of stamped images that the last core takes for class 0."""
    return run.lessons[-1].backdoor if run.lessons else math.nan


def tested_at(run: Run, time: float) -> float:
    """Test accuracy of the core at a time."""
    return run.history[bisect_right(run.history, time, key=lambda moment: moment.time) - 1].test


def measured(run: Run, name: str) -> float:
    """Mean of one measure over the lessons that have it."""
    return mean([lesson.measures.get(name, math.nan) for lesson in run.lessons])


def stale(run: Run, of: Callable[[Sequence[int]], float]) -> float:
    """A number about the staleness of the clones that came back; not a number where none did."""
    found = returned(run)
    return of(found) if found else math.nan


def returned(run: Run) -> list[int]:
    """Staleness of the clones that came back."""
    return [visit.staleness for visit in run.visits if visit.state != "lost"]


def returned_by(run: Run, time: float) -> int:
    """How many clones had come back."""
    return sum(visit.state != "lost" and visit.time <= time for visit in run.visits)


def has_flow(run: Run) -> bool:
    """Whether anybody came after the start, or left."""
    return any(move.kind == "left" or move.time > 0 for move in run.moves)


def live(run: Run, time: float) -> int:
    """How many users were there."""
    before = [move.live for move in run.moves if move.time <= time]
    return before[-1] if before else live_at_start(run)


def live_at_start(run: Run) -> int:
    """Before the first one came or went; all of them where nobody did."""
    for move in run.moves[:1]:
        return move.live + (1 if move.kind == "left" else -1)
    return len(run.start.users)


def target_gain(study: Study) -> float:
    """Half of the best mean gain over the core; 0 where nobody gained."""
    return max(0.0, max(each(runs, gain).mean for runs in study.contestants.values()) / 2)


def reached(run: Run, wanted: float) -> Moment | None:
    """The first core that lies so far above the start; none where there is nothing to reach or nobody did."""
    found = [moment for moment in run.history if wanted and moment.test >= run.start.test + wanted - NOISE]
    return found[0] if found else None


def without_numbers(reason: str) -> str:
    """A reason as its kind, so that alike ones can be counted."""
    return NUMBERS.sub("\u2026", reason) or "no reason given"
