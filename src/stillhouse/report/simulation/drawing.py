"""Charts of a study: curves of all contestants, and the visits of one run.

Contestants keep their color and dash in every chart, by their order.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from stillhouse.report.charts import LAYOUT, MARGINS, QUIET_AXIS, Axes, Chart, Line, line_chart, plain, span
from stillhouse.report.curves import TERM_COLORS, Figure
from stillhouse.report.simulation.averaging import Steps, averaged
from stillhouse.report.simulation.records import FATES, Fate, Run, Study, Visit
from stillhouse.report.simulation.results import has_flow, live, returned
from stillhouse.report.simulation.table import size_unit
from stillhouse.report.verdict import duration, percent

DASHES = ("solid", "dash", "dot", "dashdot")
COLORS = (*TERM_COLORS, "--term-9", "--term-10")
BAND_OPACITY = "28"  # hexadecimal
SIGNS: dict[Fate, str] = {"applied": "circle", "refused": "x", "lost": "circle-open"}
FATE_COLORS: dict[Fate, str] = {"applied": "--applied", "refused": "--refused", "lost": "--lost"}
TALL, SMALL = 440, 210  # pixels
MOST_NAMES = 14  # beside a chart of usual height
ROW = 20  # pixels of one user
UNITS = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))


@dataclass(frozen=True)
class Clock:
    """The unit, in seconds, in which a chart tells virtual time."""

    seconds: float
    name: str

    @classmethod
    def of(cls, horizon: float) -> "Clock":
        """The largest unit of which the time has at least two."""
        return cls(*next((unit for unit in UNITS if horizon >= 2 * unit[0]), UNITS[-1]))

    @property
    def title(self) -> str:
        """Of an axis."""
        return f"virtual {self.name}"


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
        _step(chart["data"][1])
        chart["data"] = [_band(steps, color), *chart["data"]]
        for fate, row in zip(FATES[1:], (0.75, 0.25), strict=True):
            times = [visit.time for run in runs for visit in run.visits if visit.state == fate]
            chart["data"].append(_signs(times, [below + row * (low - below)] * len(times), fate, clock, "line-ns"))
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


def live_users(run: Run, clock: Clock) -> list[Figure]:
    """Who was there in one run, with every decision on the line; nothing where nobody came or went."""
    if not has_flow(run):
        return []
    times = sorted({0.0, *(move.time for move in run.moves), run.end.time})
    x, y = [time / clock.seconds for time in times], [float(live(run, time)) for time in times]
    line = Line(name="live users", x=x, y=y, color="--baseline", named=False)
    axes = Axes(x_title=clock.title, y_span=(0.0, max(y) * 1.12 or 1.0), height=220)
    chart = line_chart([line], axes)
    _step(chart["data"][0])
    for fate in FATES:
        times = [visit.time for visit in run.visits if visit.state == fate]
        chart["data"].append(_signs(times, [live(run, time) for time in times], fate, clock, SIGNS[fate]))
    chart["layout"] |= {"margin": MARGINS | {"l": _margin(run), "r": 18}, "hovermode": "closest"}
    chart["layout"]["xaxis"] |= {"range": _range(run, clock)}
    chart["layout"]["yaxis"] |= {"automargin": False, "dtick": max(1, round(max(y) / 4))}
    told = "How many are there, and what was decided when"
    return [Figure(title="Live users", caption=told, chart=chart)]


def timeline(run: Run, clock: Clock) -> list[Figure]:
    """A lane for every user: its visits from dispatch to decision, on the time it was there."""
    if not run.visits:
        return []
    lanes = {user.name: number for number, user in enumerate(run.start.users)}
    stays = _stays(run)
    there = _bars([(lanes[user], begin, end, "") for user, begin, end in stays], clock, "there", "--rule", 0.9)
    there |= {"hoverinfo": "skip"}
    drawn = [there] + [
        _bars(
            [
                (lanes[visit.user], visit.sent, visit.time, _hover(run, visit))
                for visit in run.visits
                if visit.state == fate
            ],
            clock,
            fate,
            FATE_COLORS[fate],
            0.62,
        )
        for fate in FATES
    ]
    names = [plain(user.name + f" \u2020 {user.attack}" * bool(user.attack), 22) for user in run.start.users]
    height = MARGINS["t"] + MARGINS["b"] + ROW * max(4, len(lanes))
    layout: Chart = LAYOUT | {
        "height": height,
        "hovermode": "closest",
        "barmode": "overlay",
        "margin": MARGINS | {"l": _margin(run), "r": 18},
        "xaxis": QUIET_AXIS
        | {
            "title": {"text": clock.title, "standoff": 6, "font": {"size": 12}},
            "range": _range(run, clock),
            "showgrid": False,
            "linecolor": "--rule",
            "nticks": 8,
        },
        "yaxis": QUIET_AXIS
        | {
            "tickvals": list(lanes.values()),
            "ticktext": names,
            "range": [len(lanes) - 0.4, -0.6],
            "showgrid": False,
            "ticklen": 2,
            "tickfont": {"size": 11},
        },
    }
    told = "Bars reach from dispatch to decision; pale: the user is there" + "; \u2020 attacks" * any(
        run.attacks.values()
    )
    return [Figure(title="Who had a clone when", caption=told, chart={"data": drawn, "layout": layout})]


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
        _step(trace)
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


def _step(trace: dict[str, Any]) -> None:
    trace["mode"] = "lines"
    trace["line"]["shape"] = "hv"


def _band(steps: Steps, color: str) -> Chart:
    """The outline of mean plus and minus deviation, as steps."""
    low, high = (_corners(edge.x, edge.y) for edge in _edges(steps))
    outline = [*high, *reversed(low)]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [_short(x) for x, _ in outline],
        "y": [_short(y) for _, y in outline],
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


def _signs(times: Sequence[float], heights: Sequence[float], fate: Fate, clock: Clock, symbol: str) -> Chart:
    """A sign for every decision with this fate."""
    color = FATE_COLORS[fate]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": fate,
        "x": [_short(time / clock.seconds) for time in times],
        "y": [_short(height) for height in heights],
        "marker": {"symbol": symbol, "size": 7, "color": color, "line": {"width": 1.2, "color": color}},
        "hoverinfo": "skip",
        "cliponaxis": False,
    }


def _bars(bars: Sequence[tuple[int, float, float, str]], clock: Clock, name: str, color: str, width: float) -> Chart:
    """Lying bars (lane, begin, end, words when pointed at)."""
    return {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "y": [lane for lane, *_ in bars],
        "base": [_short(begin / clock.seconds) for _, begin, _, _ in bars],
        "x": [_short(max(0.0, end - begin) / clock.seconds) for _, begin, end, _ in bars],
        "width": width,
        "marker": {"color": color, "line": {"width": 1, "color": "--page"}},
        "hovertext": [text for *_, text in bars],
        "hoverinfo": "text",
    }


def _stays(run: Run) -> list[tuple[str, float, float]]:
    """From when to when every user was there; who was never seen to come or go was there all the time."""
    moved = {move.user for move in run.moves}
    came: dict[str, float] = {}
    stays = [(user.name, 0.0, run.end.time) for user in run.start.users if user.name not in moved and not run.moves]
    for move in run.moves:
        if move.kind == "joined":
            came[move.user] = move.time
        else:
            stays.append((move.user, came.pop(move.user, 0.0), move.time))
    return stays + [(user, time, run.end.time) for user, time in came.items()]


def _hover(run: Run, visit: Visit) -> str:
    attack = run.attacks[visit.user]
    lines = [
        f"{plain(visit.user)}{f' ({plain(attack)})' if attack else ''}: {visit.state}",
        f"{duration(visit.sent)} to {duration(visit.time)}, {visit.staleness} versions behind",
        *[plain(visit.reason, 110)] * bool(visit.reason),
    ]
    return "<br>".join(lines)


def _margin(run: Run) -> int:
    longest = max((len(user.name) + 3 * bool(user.attack) + len(user.attack) for user in run.start.users), default=0)
    return 24 + round(6.4 * min(22, longest))


def _range(run: Run, clock: Clock) -> list[float]:
    end = run.end.time / clock.seconds or 1.0
    return [-0.01 * end, 1.01 * end]


def _short(value: float) -> float:
    """Six significant digits, which no screen tells apart from all."""
    return float(f"{value:.6g}")
