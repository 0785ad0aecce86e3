"""Charts of a study: curves of all contestants, and the visits of one run.

Contestants keep their color and dash in every chart, by their order.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from stillhouse.report.charts import HEIGHT, LAYOUT, MARGINS, QUIET_AXIS, Axes, Chart, Line, line_chart, plain, span
from stillhouse.report.curves import TERM_COLORS, Figure
from stillhouse.report.simulation.averaging import Steps, averaged
from stillhouse.report.simulation.records import FATES, Fate, Moment, Run, Study, Visit
from stillhouse.report.simulation.results import has_flow, live_at_start, returned
from stillhouse.report.simulation.table import size_unit
from stillhouse.report.verdict import duration

DASHES = ("solid", "dash", "dot", "dashdot")
BAND_OPACITY = "22"  # hexadecimal
SIGNS: dict[Fate, str] = {"applied": "circle", "refused": "x", "lost": "circle-open"}
FATE_COLORS: dict[Fate, str] = {"applied": "--applied", "refused": "--refused", "lost": "--lost"}
TALL = 440  # pixels
ROW = 20  # pixels of one user
NUM_MARKS = 60  # of one contestant
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


def accuracy_over_time(study: Study) -> list[Figure]:
    """Mean line and band of every contestant; marks where clones were refused or lost."""
    clock = Clock.of(study.horizon)
    steps = {
        name: averaged(runs, lambda moment: moment.time / clock.seconds, study.horizon / clock.seconds)
        for name, runs in study.contestants.items()
    }
    chart = _curves(study, steps, Axes(x_title=clock.title, y_format=".0%", height=_height(study)))
    for number, (name, runs) in enumerate(study.contestants.items()):
        chart["data"] += [_marks(runs, fate, steps[name], clock, _style(number)[0]) for fate in FATES[1:]]
    told = f"Test accuracy; {_told(study)}. \u00d7 a clone was refused, \u25cb one was lost"
    return [Figure(title="Accuracy and virtual time", caption=told, chart=chart)]


def accuracy_over_bytes(study: Study) -> list[Figure]:
    """The same over the bytes of all visits, both ways, those of lost ones among them."""
    most = max(run.bytes for run in study.runs)
    if not most:
        return []
    scale, unit = size_unit(most)
    steps = {
        name: averaged(runs, lambda moment: moment.bytes / scale, max(run.bytes for run in runs) / scale)
        for name, runs in study.contestants.items()
    }
    axes = Axes(x_title=f"{unit} of all visits, both ways", y_format=".0%", height=_height(study))
    told = f"Test accuracy; {_told(study)}; lost visits cost what they took"
    return [Figure(title="Accuracy and traffic", caption=told, chart=_curves(study, steps, axes))]


def staleness(study: Study) -> list[Figure]:
    """Shares of returns by how many versions the core had gone on."""
    lines = []
    for number, (name, runs) in enumerate(study.contestants.items()):
        counts = Counter(value for run in runs for value in returned(run))
        if counts:
            x = range(max(counts) + 1)
            color, dash = _style(number)
            shares = [counts[value] / counts.total() for value in x]
            lines.append(Line(name=name, x=x, y=shares, color=color, dash=dash, named=number < 8))
    if not lines:
        return []
    axes = Axes(x_title="versions behind", y_format=".0%", y_span=(0.0, span(lines)[1]), whole_x=True)
    told = "Share of all clones that came back, by how stale they were"
    return [Figure(title="Staleness", caption=told, chart=line_chart(lines, axes))]


def live_users(run: Run, clock: Clock) -> list[Figure]:
    """Who was there in one run, with every decision on the line; nothing where nobody came or went."""
    if not has_flow(run):
        return []
    levels = [(0.0, live_at_start(run)), *((move.time, move.live) for move in run.moves)]
    levels.append((run.end.time, levels[-1][1]))
    x, y = [time / clock.seconds for time, _ in levels], [float(live) for _, live in levels]
    line = Line(name="live users", x=x, y=y, color="--baseline", named=False)
    axes = Axes(x_title=clock.title, y_span=(0.0, max(y) * 1.12 or 1.0), height=220)
    chart = line_chart([line], axes)
    _step(chart["data"][0])
    steps = Steps(tuple(x), tuple(y), (0.0,) * len(x))
    chart["data"] += [_marks([run], fate, steps, clock, FATE_COLORS[fate]) for fate in FATES]
    chart["layout"] |= {"margin": MARGINS | {"l": _margin(run), "r": 18}, "hovermode": "closest"}
    chart["layout"]["xaxis"] |= {"range": _range(run, clock)}
    chart["layout"]["yaxis"] |= {"automargin": False, "dtick": max(1, round(max(y) / 4))}
    told = "Line: users who are there; marks: what was decided then (see below for colors)"
    return [Figure(title="Live users and returns", caption=told, chart=chart)]


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
            [(lanes[visit.user], visit.sent, visit.time, _hover(run, visit)) for visit in run.visits if visit.state == fate],
            clock, fate, FATE_COLORS[fate], 0.62,
        )
        for fate in FATES
    ]  # fmt: skip
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
    told = "A lane for each user; bars reach from dispatch to decision" + "; \u2020 attacks" * any(run.attacks.values())
    return [Figure(title="Visits", caption=told, chart={"data": drawn, "layout": layout})]


def _style(number: int) -> tuple[str, str]:
    """Color and dash of a contestant by its place."""
    turn, place = divmod(number, len(TERM_COLORS))
    return TERM_COLORS[place], DASHES[turn % len(DASHES)]


def _height(study: Study) -> int:
    return max(TALL, 80 + 17 * len(study.contestants))


def _told(study: Study) -> str:
    many = max(map(len, study.contestants.values())) > 1
    return "mean line, band of one deviation over seeds" if many else "one seed"


def _curves(study: Study, steps: dict[str, Steps], axes: Axes) -> Chart:
    """Steps of all contestants over their bands, the best one on top."""
    styles = {name: _style(number) for number, name in enumerate(study.contestants)}
    lines = [
        Line(
            name=name,
            x=taken.x,
            y=taken.mean,
            color=styles[name][0],
            dash=styles[name][1],
            width=2.6 if number == 0 else 1.8,
        )
        for number, (name, taken) in enumerate(steps.items())
    ]
    ends = [
        Line(name="", x=taken.x, y=[mean + side * off for mean, off in zip(taken.mean, taken.deviation, strict=True)],
             color="--ink")
        for taken in steps.values()
        for side in (-1, 1)
    ]  # fmt: skip
    chart = line_chart(lines, Axes(**(vars(axes) | {"y_span": span(ends)})))
    for trace in chart["data"]:
        _step(trace)
    bands = [_band(taken, styles[name][0]) for name, taken in steps.items() if any(taken.deviation)]
    chart["data"] = bands[::-1] + chart["data"][::-1]
    return chart


def _step(trace: dict[str, Any]) -> None:
    trace["mode"] = "lines"
    trace["line"]["shape"] = "hv"


def _band(steps: Steps, color: str) -> Chart:
    """The outline of mean plus and minus deviation, as steps."""
    high, low = (
        _corners(steps.x, [mean + side * off for mean, off in zip(steps.mean, steps.deviation, strict=True)])
        for side in (1, -1)
    )
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


def _marks(runs: Sequence[Run], fate: Fate, steps: Steps, clock: Clock, color: str) -> Chart:
    """Signs on a line where visits of all seeds had this fate; of very many, evenly chosen ones."""
    times = sorted(visit.time / clock.seconds for run in runs for visit in run.visits if visit.state == fate)
    chosen = times[:: -(-len(times) // NUM_MARKS) or 1]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": fate,
        "x": [_short(time) for time in chosen],
        "y": [_short(steps.at(time)) for time in chosen],
        "marker": {"symbol": SIGNS[fate], "size": 6, "color": color, "opacity": 0.75, "line": {"width": 1, "color": color}},
        "hoverinfo": "skip",
        "cliponaxis": False,
    }  # fmt: skip


def _bars(bars: Sequence[tuple[int, float, float, str]], clock: Clock, name: str, color: str, width: float) -> Chart:
    """Lying bars (lane, begin, end, words when pointed at)."""
    return {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "y": [lane for lane, *_ in bars],
        "base": [_short(begin / clock.seconds) for _, begin, _, _ in bars],
        "x": [_short((end - begin) / clock.seconds) for _, begin, end, _ in bars],
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
