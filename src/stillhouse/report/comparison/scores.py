"""What every run reached and what it cost, as rows of words for the terminal and the page."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from stillhouse.report.charts import finite
from stillhouse.report.comparison.gathering import Compared, comparable
from stillhouse.report.curves import spoken
from stillhouse.report.evaluated import Result
from stillhouse.report.verdict import health_sentence, progress
from stillhouse.report.wording import duration, percent, points

NOTHING = "\u2013"
LEADS = " Bold: no other run is surely better, by 95 % intervals."


@dataclass(frozen=True, kw_only=True)
class Table:
    """A row for each run; the first column is its name. A cell is what it says and a note to it, empty or not.

    `leaders` names, for each column, the rows that lead.
    """

    title: str
    note: str
    heads: tuple[str, ...]
    rows: tuple[tuple[tuple[str, str], ...], ...]
    leaders: tuple[frozenset[int], ...]


def tables(runs: Sequence[Compared]) -> list[Table]:
    """One table of scores for each protocol, then what the runs cost."""
    protocols = dict.fromkeys(name for run in runs for name in run.facts.evaluation.protocols)
    return [*(_scores(runs, name) for name in protocols), _cost(runs)]


def _scores(runs: Sequence[Compared], protocol: str) -> Table:
    """The block that held-out images choose, the last block, and what training gained."""
    best = [run.facts.evaluation.best(protocol, "encoder") for run in runs]
    last = [run.facts.evaluation.of(protocol, "encoder")[-1:] for run in runs]
    fresh = [run.facts.evaluation.best(protocol, "untrained") for run in runs]
    rows = tuple(
        ((run.name, ""), _accuracy(chosen, "block "), _accuracy(final, "of "), _gain(chosen, base))
        for run, chosen, final, base in zip(runs, best, last, fresh, strict=True)
    )
    ranked = (_leading(best), _leading(last)) if comparable(runs) else (frozenset[int](), frozenset[int]())
    leaders = (frozenset[int](), *ranked, frozenset[int]())
    note = "Best block: the one that held-out images choose."
    note += LEADS if any(ranked) else ""
    heads = ("run", "best block", "last block", "gain, points over untrained")
    return Table(title=f"{spoken(protocol)}, {protocol}", note=note, heads=heads, rows=rows, leaders=leaders)


def _leading(results: Sequence[tuple[Result, ...]]) -> frozenset[int]:
    """Rows whose interval reaches the highest lower end; none where fewer than two were measured."""
    lower = [found[0].bounds[0] for found in results if found]
    if len(lower) < 2:
        return frozenset()
    return frozenset(number for number, found in enumerate(results) if found and found[0].bounds[1] >= max(lower))


def _accuracy(found: tuple[Result, ...], place: str) -> tuple[str, str]:
    for result in found:
        low, high = result.bounds
        ends = f"{100 * low:.1f}\u2013{100 * high:.1f}, " if result.has_interval else ""
        return percent(result.accuracy), f"{ends}{place}{result.block}"
    return NOTHING, ""


def _gain(found: tuple[Result, ...], base: tuple[Result, ...]) -> tuple[str, str]:
    for result, fresh in zip(found, base, strict=False):
        return points(result.accuracy - fresh.accuracy), f"over {100 * fresh.accuracy:.1f}"
    return NOTHING, ""


def _cost(runs: Sequence[Compared]) -> Table:
    """Time, speed and the judgement."""
    rows = []
    for run in runs:
        steps, evaluation = run.facts.steps, run.facts.evaluation
        times = finite(line.seconds for line in steps)[-1:]
        rates = finite(line.images_per_second for line in steps)
        rank = [line for line in run.facts.health if math.isfinite(line.effective_rank)][-1:]
        rows.append(
            (
                (run.name, ""),
                (progress(run.facts) or NOTHING, f"{steps[-1].step:,} steps" if steps else ""),
                (duration(times[0]) if times else NOTHING, ""),
                (f"{statistics.median(rates):,.0f}" if rates else NOTHING, ""),
                (f"{rank[0].effective_rank:.1f}" if rank else NOTHING, f"of {rank[0].dim}" if rank else ""),
                (evaluation.verdict.level.capitalize() or _health(run), ""),
            )
        )
    heads = ("run", "state", "training time", "images per second", "effective rank", "verdict")
    empty = frozenset[int]()
    note = "Speeds are medians, as each run was trained: other machines and other work on them count, too."
    return Table(title="Cost and health", note=note, heads=heads, rows=tuple(rows), leaders=(empty,) * len(heads))


def _health(run: Compared) -> str:
    return health_sentence(run.facts).partition(":")[0].rstrip(".") if run.facts.health else NOTHING
