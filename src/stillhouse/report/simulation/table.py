"""A table that is written three ways: numbers for programs, Markdown, HTML."""

import math
import statistics
from dataclasses import dataclass
from typing import Any, Literal

from stillhouse.report.charts import finite
from stillhouse.report.markup import Html, tag
from stillhouse.report.wording import SPACE

Unit = Literal["text", "count", "number", "percent", "points", "bytes", "minutes"]

DASH = "\u2013"  # where nothing was measured
PER_UNIT: dict[Unit, float] = {"percent": 0.01, "points": 0.01, "minutes": 60.0}
WORDS: dict[Unit, str] = {"percent": "%", "points": "points", "minutes": "min"}
SIZES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))


@dataclass(frozen=True)
class Spread:
    """One number for every seed; those that are not finite were not measured."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the seeds that have it; not a number where none has."""
        found = finite(self.values)
        return statistics.fmean(found) if found else math.nan

    @property
    def deviation(self) -> float:
        """Sample standard deviation over seeds; not a number of fewer than two."""
        found = finite(self.values)
        return statistics.stdev(found) if len(found) > 1 else math.nan

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "mean": number(self.mean),
            "deviation": number(self.deviation),
            "values": [number(value) for value in self.values],
        }


Cell = str | int | Spread


@dataclass(frozen=True)
class Column:
    """`key` names it in `results.json`, where shares stay shares, times seconds, sizes bytes; people read `title`."""

    key: str
    title: str
    unit: Unit = "percent"


@dataclass(frozen=True)
class Table:
    """One cell per column in every row; `note` says what the numbers are."""

    name: str
    title: str
    note: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def plain(self) -> dict[str, Any]:
        """As JSON has it: rows by key."""
        rows = [
            {
                column.key: cell.plain() if isinstance(cell, Spread) else cell
                for column, cell in zip(self.columns, row, strict=True)
            }
            for row in self.rows
        ]
        return {"name": self.name, "title": self.title, "note": self.note, "rows": rows}

    def lines(self) -> list[str]:
        """As Markdown, padded to read well without it."""
        cells = [self.heads(), *([markdown(" ".join(pair)) for pair in row] for row in self.texts())]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        written = [
            f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |" for row in cells
        ]
        return [written[0], f"|{'|'.join('-' * (width + 2) for width in widths)}|", *written[1:]]

    def html(self) -> Html:
        """As an element that scrolls sideways where it is too wide."""
        head = tag("tr", *(tag("th", title, scope="col") for title in self.heads()))
        rows = [
            tag("tr", tag("th", " ".join(first), scope="row"), *(_html_cell(*pair) for pair in rest))
            for first, *rest in self.texts()
        ]
        table = tag("table", tag("thead", head), tag("tbody", *rows))
        return tag("div", table, class_="wide", tabindex="0", role="region", aria_label=self.title)

    def heads(self) -> list[str]:
        """Titles with their units."""
        words = [self._scale(place)[1] for place in range(len(self.columns))]
        return [
            f"{column.title}, {word}" if word else column.title
            for column, word in zip(self.columns, words, strict=True)
        ]

    def texts(self) -> list[list[tuple[str, str]]]:
        """Every cell as its mean and its deviation, of which the second may be empty."""
        scales = [self._scale(place)[0] for place in range(len(self.columns))]
        return [
            [_texts(cell, column.unit, scale) for cell, column, scale in zip(row, self.columns, scales, strict=True)]
            for row in self.rows
        ]

    def _scale(self, place: int) -> tuple[float, str]:
        """How much of the raw unit one of the shown units is, and what that is called."""
        unit = self.columns[place].unit
        if unit != "bytes":
            return PER_UNIT.get(unit, 1.0), WORDS.get(unit, "")
        sizes = [place for place, column in enumerate(self.columns) if column.unit == "bytes"]
        cells = [row[place] for row in self.rows for place in sizes]
        return size_unit(max(finite(cell.mean for cell in cells if isinstance(cell, Spread)), default=0.0))


def size_unit(largest: float) -> tuple[float, str]:
    """The unit, as bytes and as a word, in which sizes up to `largest` bytes are told."""
    return next((pair for pair in SIZES if largest >= pair[0]), SIZES[-1])


def number(value: float) -> float | None:
    """As JSON has it: null for what is not finite."""
    return value if math.isfinite(value) else None


def markdown(text: str) -> str:
    """Text on one line that ends no cell of Markdown and becomes no HTML in it."""
    text = one_line(text).replace("&", "&amp;")
    for sign in "\\`*[]<>|":
        text = text.replace(sign, f"\\{sign}")
    return text


def one_line(text: str) -> str:
    """Text without line breaks and without orders to a terminal."""
    return " ".join("".join(sign if sign.isprintable() or sign == SPACE else " " for sign in text).split(" ")).strip()


def _texts(cell: Cell, unit: Unit, scale: float) -> tuple[str, str]:
    if not isinstance(cell, Spread):
        return str(cell), ""
    if not math.isfinite(cell.mean):
        return DASH, ""
    digits = 1 if unit in ("count", "minutes") else 2
    sign = "+" if unit == "points" else ""
    mean = f"{cell.mean / scale:{sign}.{digits}f}".replace("-", "\u2212")
    return mean, f"\u00b1 {cell.deviation / scale:.{digits}f}" if math.isfinite(cell.deviation) else ""


def _html_cell(mean: str, deviation: str) -> Html:
    return tag("td", mean, *[" ", tag("small", deviation)] * bool(deviation))
