"""The tables of a study; each is there only if the records hold what it needs.

Per seed first, then mean and deviation over seeds. Contestants stand in one order in all tables, the best first.
"""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from stillhouse.report.charts import finite
from stillhouse.report.simulation.measuring import (
    accepted,
    backdoor,
    each,
    gain,
    has_flow,
    live,
    mean,
    measured,
    reached,
    returned,
    returned_by,
    stale,
    target_gain,
    tested_at,
    without_numbers,
)
from stillhouse.report.simulation.records import FATES, Fate, Run, Study
from stillhouse.report.simulation.table import Cell, Column, Spread, Table, Unit
from stillhouse.report.wording import duration

QUARTERS = {0.25: "a quarter", 0.5: "half", 0.75: "three quarters", 1.0: "the end"}
MEASURES = {"attend": "A", "retain": "R", "useful_attend": "A+", "useful_retain": "R+", "kept": "kept"}
Row = tuple[Cell, ...]
CONTESTANT = Column("contestant", "contestant", "text")


def tables(study: Study) -> list[Table]:
    """All that the records allow, in the order in which they are read."""
    makers = (accuracy, attacks, over_time, staleness, flow, cost, bias, fates)
    return [table for make in makers if (table := make(study)).rows]


def accuracy(study: Study) -> Table:
    """T1: test accuracy at the end, best and worst on the way, beside the core nobody taught."""
    columns = (
        CONTESTANT,
        Column("final", "final"),
        Column("gain", "gain", "points"),
        Column("core", "core only"),
        Column("best", "best"),
        Column("worst", "worst"),
        Column("seeds", "seeds", "count"),
    )
    rows: list[Row] = [
        (
            name,
            each(runs, lambda run: run.end.test),
            each(runs, gain),
            each(runs, lambda run: run.start.test),
            each(runs, lambda run: max(moment.test for moment in run.history)),
            each(runs, lambda run: min(moment.test for moment in run.history)),
            len(runs),
        )
        for name, runs in study.contestants.items()
    ]
    note = "Test accuracy; best and worst are those of all cores on the way, the first one among them."
    return Table("accuracy", "Accuracy", note, columns, tuple(rows))


def attacks(study: Study) -> Table:
    """T4: what came of attackers, a row for every contestant and kind of attack."""
    columns = (
        CONTESTANT,
        Column("attack", "attack", "text"),
        Column("final", "final"),
        Column("attackers_accepted", "attackers' returns accepted"),
        Column("honest_accepted", "honest returns accepted"),
        Column("lowest", "lowest against the start", "points"),
        Column("backdoor", "backdoor works"),
    )
    rows: list[Row] = []
    for name, runs in study.contestants.items():
        for attack in sorted({attack for run in runs for attack in run.attacks.values() if attack}):
            attacked = [run for run in runs if attack in run.attacks.values()]
            rows.append(
                (
                    name,
                    attack,
                    each(attacked, lambda run: run.end.test),
                    each(attacked, partial(accepted, attack=attack)),
                    each(attacked, partial(accepted, attack="")),
                    each(attacked, lambda run: min(moment.test for moment in run.history) - run.start.test),
                    each(attacked, backdoor),
                )
            )
    note = (
        "Accepted: share of the returns that were applied rather than refused. A backdoor works on the share of "
        "stamped test images that the last core takes for class 0."
    )
    return Table("attacks", "Attackers", note, columns, tuple(rows))


def over_time(study: Study) -> Table:
    """T5: test accuracy at quarters of the virtual time."""
    columns = (CONTESTANT, Column("start", "start"), *_quarter_columns("accuracy", "", "percent"))
    rows: list[Row] = [
        (name, *(each(runs, partial(tested_at, time=time)) for time in (0.0, *_times(study))))
        for name, runs in study.contestants.items()
        if study.horizon > 0
    ]
    note = f"Test accuracy at quarters of {duration(study.horizon)} of virtual time; a run that is over keeps its core."
    return Table("time", "Accuracy by time", note, columns, tuple(rows))


def staleness(study: Study) -> Table:
    """T5: how many versions the core had gone on when clones came back."""
    columns = (
        CONTESTANT,
        Column("returns", "returns", "count"),
        Column("fresh", "none behind"),
        Column("mean", "mean staleness", "number"),
        Column("median", "median", "number"),
        Column("most", "nine tenths up to", "number"),
        Column("largest", "largest", "number"),
    )
    measures: tuple[Callable[[Sequence[int]], float], ...] = (
        lambda values: values.count(0) / len(values),
        statistics.fmean,
        statistics.median,
        lambda values: sorted(values)[math.ceil(0.9 * len(values)) - 1],
        max,
    )
    rows: list[Row] = [
        (
            name,
            each(runs, lambda run: len(returned(run))),
            *(each(runs, partial(stale, of=of)) for of in measures),
        )
        for name, runs in study.contestants.items()
        if any(returned(run) for run in runs)
    ]
    note = "Versions that the core had gone on since the clone was sent, over all clones that came back."
    return Table("staleness", "Staleness", note, columns, tuple(rows))


def flow(study: Study) -> Table:
    """T6: users who came and went, who was there, and what they had brought back."""
    columns = (
        CONTESTANT,
        Column("came", "came", "number"),
        Column("left", "left", "number"),
        *_quarter_columns("live", "live at ", "count"),
        *_quarter_columns("returns", "returns by ", "count"),
    )
    rows: list[Row] = [
        (
            name,
            each(runs, lambda run: sum(move.kind == "joined" and move.time > 0 for move in run.moves)),
            each(runs, lambda run: sum(move.kind == "left" for move in run.moves)),
            *(each(runs, partial(live, time=time)) for time in _times(study)),
            *(each(runs, partial(returned_by, time=time)) for time in _times(study)),
        )
        for name, runs in study.contestants.items()
        if any(has_flow(run) for run in runs)
    ]
    note = "Users who came after the start and who left; live users and all returns so far, at quarters of the time."
    return Table("flow", "Inflow and outflow", note, columns, tuple(rows))


def cost(study: Study) -> Table:
    """T7: bytes of all visits, and bytes and virtual time until the core was as good as the target."""
    columns = (
        CONTESTANT,
        Column("down", "down", "bytes"),
        Column("up", "up", "bytes"),
        Column("lost", "of it lost", "bytes"),
        Column("target_bytes", "bytes to the target", "bytes"),
        Column("target_seconds", "time to the target", "minutes"),
        Column("target_runs", "runs that reached it", "text"),
    )
    wanted = target_gain(study)
    rows: list[Row] = []
    for name, runs in study.contestants.items():
        hits = [reached(run, wanted) for run in runs]
        rows.append(
            (
                name,
                each(runs, lambda run: sum(visit.down for visit in run.visits)),
                each(runs, lambda run: sum(visit.up for visit in run.visits)),
                each(runs, lambda run: sum(visit.down + visit.up for visit in run.visits if visit.state == "lost")),
                Spread(tuple(hit.bytes if hit else math.nan for hit in hits)),
                Spread(tuple(hit.time if hit else math.nan for hit in hits)),
                f"{sum(hit is not None for hit in hits)} of {len(runs)}",
            )
        )
    note = (
        f"Target: the core of the run's own start and half of the best mean gain, {100 * wanted:.2f} points. Bytes "
        "of all visits decided until then count, both ways, lost ones too; means are over the runs that reached it."
        if wanted
        else "No contestant ends above the core, so there is no target to reach."
    )
    return Table("cost", "Bytes and time to a target", note, columns, tuple(rows))


def bias(study: Study) -> Table:
    """T8: what lessons did to classes their users do not hold, and how they attended and retained."""
    names = [name for name in MEASURES if any(name in lesson.measures for run in study.runs for lesson in run.lessons)]
    columns = (
        CONTESTANT,
        Column("edge_bias", "edge bias"),
        *(Column(name, MEASURES[name]) for name in names),
    )
    rows: list[Row] = [
        (
            name,
            each(runs, lambda run: mean([lesson.absent_fall for lesson in run.lessons])),
            *(each(runs, partial(measured, name=of)) for of in names),
        )
        for name, runs in study.contestants.items()
    ]
    told = [row for row in rows if any(isinstance(cell, Spread) and finite(cell.values) for cell in row)]
    note = (
        "Edge bias: mean over lessons of the points of recall lost on classes that their users do not hold. A and R: "
        "where a clone and the core disagree, the share in which the taught core says what the clone says (A) or what "
        "the core said (R); with + those in which that is right. Kept: the share of the lesson that the trial kept."
    )
    return Table("bias", "Edge bias, attending and retaining", note, columns, tuple(told))


def fates(study: Study) -> Table:
    """What became of visits, over all seeds, and why."""
    columns = (
        CONTESTANT,
        Column("visits", "visits", "count"),
        *(Column(fate, fate, "count") for fate in FATES),
        Column("reasons", "reasons", "text"),
    )
    rows: list[Row] = []
    for name, runs in study.contestants.items():
        counts = Counter(visit.state for run in runs for visit in run.visits)
        told = [f"{fate}: {said}" for fate in FATES[1:] if (said := _reasons(runs, fate))]
        rows.append((name, counts.total(), *(counts[fate] for fate in FATES), "; ".join(told)))
    note = "Visits of all seeds together; numbers inside reasons are left out."
    return Table("fates", "Fates of visits", note, columns, tuple(rows))


def _reasons(runs: Sequence[Run], fate: Fate) -> str:
    counts = Counter(without_numbers(visit.reason) for run in runs for visit in run.visits if visit.state == fate)
    return ", ".join(f"{count} {reason}" for reason, count in counts.most_common())


def _times(study: Study) -> list[float]:
    return [share * study.horizon for share in QUARTERS]


def _quarter_columns(key: str, title: str, unit: Unit) -> tuple[Column, ...]:
    return tuple(Column(f"{key}_{round(100 * share)}", f"{title}{name}", unit) for share, name in QUARTERS.items())
