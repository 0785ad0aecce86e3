"""A line chart in the house style, as data for plotly.js.

Colors are names of variables in `style.css` ("--encoder"); `charts.js` puts in their values, so one page serves light
and dark. Lines are named at their right end instead of in a legend. Text goes through `plain`, because plotly reads
some HTML in names.
"""

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

Chart = dict[str, Any]

HEIGHT = 300  # pixels
MARGINS = {"t": 12, "b": 44, "l": 54}  # pixels
NAME_GAP = 16  # pixels between two names
CLEAR = "rgba(0,0,0,0)"
LAYOUT: Chart = {
    "height": HEIGHT,
    "showlegend": False,
    "hovermode": "x unified",
    "dragmode": False,
    "paper_bgcolor": CLEAR,
    "plot_bgcolor": CLEAR,
    "font": {"family": "system-ui, sans-serif", "size": 13, "color": "--muted"},
    "hoverlabel": {"bgcolor": "--surface", "bordercolor": "--rule", "font": {"color": "--ink"}, "namelength": -1},
}
QUIET_AXIS: Chart = {
    "zeroline": False,
    "fixedrange": True,
    "ticks": "outside",
    "ticklen": 6,
    "tickcolor": CLEAR,
}
GROUP_COLORS = tuple(f"--term-{number}" for number in range(1, 11))
NAME_LENGTH = 16  # characters beside the plot; hovering shows 60


@dataclass(frozen=True, kw_only=True)
class Line:
    """Points joined by a line; what is not finite leaves a gap.

    `bars` holds an interval (low, high) per point or nothing; `named` says whether the right end carries the name.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: str
    dash: str = "solid"
    width: float = 2.0
    bars: Sequence[tuple[float, float]] = ()
    named: bool = True


@dataclass(frozen=True, kw_only=True)
class Axes:
    """What the axes say; `y_span` (low, high) is shared by charts that are compared, `()` fits the lines.

    `y_format` is a d3 format; `whole_x` asks for whole numbers below the axis; `height` is that of the chart in pixels.
    """

    x_title: str
    y_format: str = ""
    y_span: tuple[()] | tuple[float, float] = ()
    whole_x: bool = False
    may_be_logarithmic: bool = False
    height: int = HEIGHT

    @property
    def name_gap(self) -> float:
        """Between two names beside the plot, as a share of its height."""
        return NAME_GAP / (self.height - MARGINS["t"] - MARGINS["b"])


def line_chart(lines: Sequence[Line], axes: Axes) -> Chart:
    """Lines over one x axis, as `data` and `layout` of a plotly figure; `{}` if no value is finite."""
    values = finite(value for line in lines for value in line.y)
    if not values:
        return {}
    logarithmic = axes.may_be_logarithmic and min(values) > 0 and max(values) > 30 * min(values)
    low, high = axes.y_span or span(lines)
    if logarithmic:
        low, high = math.log10(min(values)) - 0.1, math.log10(max(values)) + 0.1
    names = _names(lines, low, high, logarithmic, axes.name_gap)
    longest = max((len(_shortened(line.name, NAME_LENGTH)) for line in lines if line.named), default=0)
    layout = LAYOUT | {
        "height": axes.height,
        "margin": MARGINS | {"r": 18 + round(7.4 * longest)},
        "xaxis": _x_axis(lines, axes),
        "yaxis": _y_axis(axes, low, high, logarithmic),
        "annotations": names,
    }
    return {"data": [_trace(line) for line in lines], "layout": layout}


def span(lines: Iterable[Line]) -> tuple[float, float]:
    """Lowest and highest finite value of lines and bars, with a margin of 6 %; (0, 1) without any."""
    ends = [value for line in lines for pair in line.bars for value in pair]
    values = finite([*(value for line in lines for value in line.y), *ends]) or [0.0, 1.0]
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
    return low - margin, high + margin


def finite(values: Iterable[float]) -> list[float]:
    """The finite ones, in order."""
    return [value for value in values if math.isfinite(value)]


def plain(text: str, length: int = 60) -> str:
    """Text that plotly draws as it stands, cut to `length` characters."""
    return html.escape(_shortened(text, length), quote=False)


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """Move heights in [0, 1] until neighbors are `gap` apart; order stays, and 1 is not passed."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    placed = list(heights)
    for below, above in pairwise(order):
        placed[above] = max(placed[above], placed[below] + gap)
    ceiling = 1.0
    for index in reversed(order):
        placed[index] = min(placed[index], ceiling)
        ceiling = placed[index] - gap
    return placed


def _shortened(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "\u2026"


def _names(lines: Sequence[Line], low: float, high: float, logarithmic: bool, gap: float) -> list[Chart]:
    """Annotations at the right edge, at the height of each line's last finite value."""
    named = [(line, finite(line.y)[-1]) for line in lines if line.named and finite(line.y)]
    values = [math.log10(value) if logarithmic else value for _, value in named]
    heights = apart([min(1.0, max(0.0, (value - low) / (high - low))) for value in values], gap)
    place = {"xref": "paper", "yref": "paper", "x": 1, "xanchor": "left", "yanchor": "middle", "xshift": 6}
    return [
        place | {"y": height, "text": plain(line.name, NAME_LENGTH), "showarrow": False, "font": {"color": line.color}}
        for (line, _), height in zip(named, heights, strict=True)
    ]


def _trace(line: Line) -> Chart:
    trace: Chart = {
        "type": "scatter",
        "mode": "lines+markers" if line.dash == "solid" and len(line.x) <= 24 else "lines",
        "name": plain(line.name),
        "x": [_json(value) for value in line.x],
        "y": [_json(value) for value in line.y],
        "line": {"color": line.color, "dash": line.dash, "width": line.width},
        "cliponaxis": False,
        "marker": {"color": line.color, "size": 4 + line.width},
    }
    if line.bars and line.dash == "solid":
        trace["error_y"] = {"type": "data", "symmetric": False, "thickness": 1.2, "width": 3, "color": line.color} | {
            "array": [_json(high - y) for y, (_, high) in zip(line.y, line.bars, strict=True)],
            "arrayminus": [_json(y - low) for y, (low, _) in zip(line.y, line.bars, strict=True)],
        }
    return trace


def _json(value: float) -> float | None:
    """Five significant digits; null for what JSON cannot say."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _x_axis(lines: Sequence[Line], axes: Axes) -> Chart:
    values = finite(value for line in lines for value in line.x) or [0.0]
    margin = 0.3 if axes.whole_x else 0.02 * (max(values) - min(values)) or 1.0
    axis = QUIET_AXIS | {
        "title": {"text": axes.x_title, "standoff": 6, "font": {"size": 12}},
        "range": [min(values) - margin, max(values) + margin],
        "showgrid": False,
        "linecolor": "--rule",
        "nticks": 8,
    }
    if axes.whole_x:
        axis |= {"tick0": min(values), "dtick": max(1, math.ceil((max(values) - min(values)) / 12))}
    return axis


def _y_axis(axes: Axes, low: float, high: float, logarithmic: bool) -> Chart:
    return QUIET_AXIS | {
        "type": "log" if logarithmic else "linear",
        "range": [low, high],
        "gridcolor": "--rule",
        "nticks": 6,
        "automargin": True,
        "exponentformat": "e",
        "tickformat": axes.y_format,
    }
