"""What all charts of a study share: the unit of time, steps, and how fates look."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stillhouse.report.charts import Chart
from stillhouse.report.simulation.records import Fate

FATE_COLORS: dict[Fate, str] = {"applied": "--applied", "refused": "--refused", "lost": "--lost"}
MOST_SIGNS = 400  # in one row; of more, evenly chosen ones are drawn
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


def step(trace: dict[str, Any]) -> None:
    """Make steps of a line: what is true at a point is so until the next one."""
    trace["mode"] = "lines"
    trace["line"]["shape"] = "hv"


def signs(times: Sequence[float], heights: Sequence[float], fate: Fate, clock: Clock, symbol: str) -> Chart:
    """A sign for every decision with this fate."""
    color, every = FATE_COLORS[fate], -(-len(times) // MOST_SIGNS) or 1
    return {
        "type": "scatter",
        "mode": "markers",
        "name": fate,
        "x": [short(time / clock.seconds) for time in times[::every]],
        "y": [short(height) for height in heights[::every]],
        "marker": {"symbol": symbol, "size": 7, "color": color, "line": {"width": 1.2, "color": color}},
        "hoverinfo": "skip",
        "cliponaxis": False,
    }


def short(value: float) -> float:
    """Six significant digits, which no screen tells apart from all."""
    return float(f"{value:.6g}")
