"""Curves of several runs in one chart: by block and over time."""

import math
from collections.abc import Callable, Iterator, Sequence

from stillhouse.report.charts import Axes, Line, finite, line_chart, span
from stillhouse.report.comparison.gathering import Compared
from stillhouse.report.curves import Figure, spoken, thinned
from stillhouse.report.read import setting

NAMED = 12  # runs; of more, the list above tells their colors
Points = list[tuple[float, float, tuple[float, float]]]


def by_block(runs: Sequence[Compared]) -> list[Figure]:
    """One figure for each protocol that two runs or more were judged by, all with the same y axis."""
    protocols = dict.fromkeys(name for run in runs for name in run.facts.evaluation.protocols)
    drawn = {name: list(_block_lines(runs, name)) for name in protocols}
    drawn = {name: lines for name, lines in drawn.items() if lines and max(len(line.x) for line in lines) > 1}
    shared = span(line for lines in drawn.values() for line in lines)
    axes = Axes(x_title="block", y_format=".0%", y_span=shared, whole_x=True)
    return [
        Figure(title=spoken(name), caption=f"{name}, with 95 % intervals", chart=line_chart(lines, axes))
        for name, lines in drawn.items()
    ]


def _block_lines(runs: Sequence[Compared], protocol: str) -> Iterator[Line]:
    for run in runs:
        if found := run.facts.evaluation.of(protocol, "encoder"):
            yield _line(run, len(runs), [(result.block, result.accuracy, result.bounds) for result in found])


def over_time(runs: Sequence[Compared]) -> list[Figure]:
    """k-NN of the last block, effective rank, and the loss where all runs minimise the same."""
    measured: list[tuple[str, str, str, str, Callable[[Compared], Points]]] = [
        ("k-NN accuracy while training", "Last block", "epoch", ".0%", _knn),
        ("Effective rank", "Directions that embeddings use", "step", "", _rank),
    ]
    if len({str(setting(run.facts.recipe, "method")) for run in runs}) == 1:
        measured.append(("Loss", "The same method and settings in every run", "step", "", _loss))
    found = []
    for title, caption, x_title, form, points in measured:
        lines = [_line(run, len(runs), points(run)) for run in runs if points(run)]
        if chart := line_chart(lines, Axes(x_title=x_title, y_format=form)):
            found.append(Figure(title=title, caption=caption, chart=chart))
    return found


def _knn(run: Compared) -> Points:
    return [(line.epoch, line.blocks[-1], _bare(line.blocks[-1])) for line in run.facts.knn if finite(line.blocks[-1:])]


def _rank(run: Compared) -> Points:
    return [(line.step, line.effective_rank, _bare(line.effective_rank)) for line in thinned(run.facts.health)]


def _loss(run: Compared) -> Points:
    return [(line.step, line.loss, _bare(line.loss)) for line in thinned(run.facts.steps)]


def _bare(value: float) -> tuple[float, float]:
    return value, value


def _line(run: Compared, count: int, points: Points) -> Line:
    spread = any(math.isfinite(low) and low < high for _, _, (low, high) in points)
    return Line(
        name=run.name,
        x=[x for x, _, _ in points],
        y=[y for _, y, _ in points],
        color=run.color,
        dash=run.dash,
        bars=[bounds for _, _, bounds in points] if spread else (),
        named=count <= NAMED,
    )
