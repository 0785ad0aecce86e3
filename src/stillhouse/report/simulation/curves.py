"""Curves of all contestants, who keep their color and dash in every chart, by their order."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from stillhouse.report.charts import Axes, Chart, Line, line_chart, plain, span
from stillhouse.report.curves import TERM_COLORS, Figure
from stillhouse.report.simulation.averaging import Steps, averaged
from stillhouse.report.simulation.marks import Clock, short, signs, step
from stillhouse.report.simulation.measuring import returned
from stillhouse.report.simulation.records import FATES, Study
from stillhouse.report.simulation.table import size_unit
from stillhouse.report.wording import percent

DASHES = ("solid", "dash", "dot", "dashdot")
COLORS = (*TERM_COLORS, "--term-9", "--term-10")
BAND_OPACITY = "28"  # hexadecimal
TALL, SMALL = 440, 210  # pixels
MOST_NAMES = 14  # beside a chart of usual height


def accuracy_on_the_way(study: Study) -> list[Figure]:
    """Mean lines of all contestants, over virtual time and over bytes."""
    many = max(map(len, study.contestants.values())) > 1
    told = (
        "Test accuracy, mean over seeds; the band is one deviation of the best" if many else "Test accuracy, one seed"
    )
    height = max(TALL, 80 + 17 * len(study.contestants))
    clock, most = Clock.of(study.horizon), max(run.bytes for run in study.runs)
    axes = Axes(x_title=clock.title, y_format=".0%", height=height)
    chart = _curves(study, _over_time(study, clock), axes)
    figures = [Figure(title="Over virtual time", caption=told, chart=chart)]
    if most:
        scale, unit = size_unit(most)
        sent = replace(axes, x_title=f"{unit} of all visits, both ways, lost ones too")
        figures.append(Figure(title="Over bytes", caption=told, chart=_curves(study, _over_bytes(study, scale), sent)))
    return figures


def each_contestant(study: Study) -> list[Figure]:
    """A small chart of each: its mean line and band over the core it began with, and visits that taught nothing."""
    clock = Clock.of(study.horizon)
    taken = _over_time(study, clock)
    low, high = span([line for steps in taken.values() for line in _edges(steps)])
    below = low - 0.16 * (high - low)  # room for two rows of ticks
    axes = Axes(x_title=clock.title, y_format=".0%", y_span=(below, high), height=SMALL)
    figures = []
    for number, (name, runs) in enumerate(study.contestants.items()):
        steps, (color, _) = taken[name], _style(number)
        ends, start = (steps.x[0], steps.x[-1]), steps.mean[0]
        core = Line(name="core only", x=ends, y=(start, start), color="--baseline", dash="dash", width=1.4, named=False)
        chart = line_chart([core, Line(name=name, x=steps.x, y=steps.mean, color=color, named=False)], axes)
        step(chart["data"][1])
        chart["data"] = [_band(steps, color), *chart["data"]]
        for fate, row in zip(FATES[1:], (0.75, 0.25), strict=True):
            times = [visit.time for run in runs for visit in run.visits if visit.state == fate]
            chart["data"].append(signs(times, [below + row * (low - below)] * len(times), fate, clock, "line-ns"))
        counts = Counter(visit.state for run in runs for visit in run.visits)
        told = f"{percent(steps.mean[-1])} at the end; {counts['refused']:,} refused, {counts['lost']:,} lost"
        figures.append(Figure(title=plain(name), caption=told, chart=chart))
    return figures


def staleness(study: Study) -> list[Figure]:
    """Shares of returns by how many versions the core had gone on."""
    lines = []
    for number, (name, runs) in enumerate(study.contestants.items()):
        counts = Counter(value for run in runs for value in returned(run))
        if counts:
            x = range(max(counts) + 1)
            color, dash = _style(number)
            shares = [counts[value] / counts.total() for value in x]
            lines.append(Line(name=name, x=x, y=shares, color=color, dash=dash, named=number < MOST_NAMES))
    if not lines:
        return []
    axes = Axes(x_title="versions behind", y_format=".0%", y_span=(0.0, span(lines)[1]), whole_x=True)
    told = "Share of all clones that came back, by how stale they were"
    return [Figure(title="Staleness", caption=told, chart=line_chart(lines, axes))]


def _style(number: int) -> tuple[str, str]:
    """Color and dash of a contestant by its place."""
    turn, place = divmod(number, len(COLORS))
    return COLORS[place], DASHES[turn % len(DASHES)]


def _over_time(study: Study, clock: Clock) -> dict[str, Steps]:
    until = study.horizon / clock.seconds
    return {
        name: averaged(runs, lambda moment: moment.time / clock.seconds, until)
        for name, runs in study.contestants.items()
    }


def _over_bytes(study: Study, scale: float) -> dict[str, Steps]:
    return {
        name: averaged(runs, lambda moment: moment.bytes / scale, max(run.bytes for run in runs) / scale)
        for name, runs in study.contestants.items()
    }


def _curves(study: Study, taken: dict[str, Steps], axes: Axes) -> Chart:
    """Steps of all contestants, the best one last, so that it lies on top, and over its band."""
    lines = [
        Line(name=name, x=steps.x, y=steps.mean, color=color, dash=dash, width=1.8 if number else 3.0)
        for number, (name, steps) in enumerate(taken.items())
        for color, dash in [_style(number)]
    ]
    best = next(iter(taken.values()))
    chart = line_chart(lines, replace(axes, y_span=span([*lines, *_edges(best)])))
    for trace in chart["data"]:
        step(trace)
    chart["data"] = [_band(best, lines[0].color), *reversed(chart["data"])]
    return chart


def _edges(steps: Steps) -> list[Line]:
    """The lower and the upper edge of a band."""
    return [
        Line(
            name="",
            x=steps.x,
            y=[m + side * d for m, d in zip(steps.mean, steps.deviation, strict=True)],
            color="--ink",
        )
        for side in (-1, 1)
    ]


def _band(steps: Steps, color: str) -> Chart:
    """The outline of mean plus and minus deviation, as steps."""
    low, high = (_corners(edge.x, edge.y) for edge in _edges(steps))
    outline = [*high, *reversed(low)]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [short(x) for x, _ in outline],
        "y": [short(y) for _, y in outline],
        "fill": "toself",
        "fillcolor": f"{color} {BAND_OPACITY}",
        "line": {"width": 0},
        "hoverinfo": "skip",
        "name": "",
    }


def _corners(x: Sequence[float], y: Sequence[float]) -> list[tuple[float, float]]:
    corners = [(x[0], y[0])]
    for (_, before), (place, after) in pairwise(zip(x, y, strict=True)):
        corners += [(place, before), (place, after)]
    return corners
