"""A heat map in the house style, as data for plotly.js."""

import math
from collections.abc import Sequence

from stillhouse.report.charts import CLEAR, LAYOUT, Chart, plain

NAMED = 40  # rows or columns; of more, names are seen by pointing alone
DARKEST = "--encoder 99"  # with an opacity that leaves numbers on it readable, in light and dark
WRITTEN = 12  # columns; of more, cells have no room for numbers
NAME_LENGTH = 18  # characters beside the map


def heat_map(
    values: Sequence[Sequence[float]],
    rows: Sequence[str],
    columns: Sequence[str],
    told: Sequence[Sequence[str]],
    *,
    span: tuple[float, float],
    row_title: str = "",
    column_title: str = "",
    row_height: int = 24,
    number: str = ".0%",
) -> Chart:
    """Values as shades from the surface to the colour of the encoder, the first row on top.

    Args:
        values: a list for each row; what is not finite has no shade.
        rows: names.
        columns: names.
        told: what pointing at each value says, plain text.
        span: values of the lightest and the darkest shade.
        row_title: of the axis.
        column_title: of the axis.
        row_height: pixels, as far as the page has room.
        number: d3 format of the values, which are written out where there are few columns.
    """
    height = max(220, min(720, row_height * len(rows) + 90))
    trace: Chart = {
        "type": "heatmap",
        "z": [[round(value, 4) if math.isfinite(value) else None for value in row] for row in values],
        "text": [[plain(words, 160) for words in row] for row in told],
        "hovertemplate": "%{text}<extra></extra>",
        "zmin": span[0],
        "zmax": span[1],
        "xgap": 1 if len(columns) <= NAMED else 0,
        "ygap": 1 if len(rows) <= NAMED else 0,
        "colorscale": [[0, "--surface"], [1, DARKEST]],
        "showscale": False,
    }
    if len(columns) <= WRITTEN:
        trace |= {"texttemplate": f"%{{z:{number}}}", "textfont": {"size": 11, "color": "--ink"}}
    layout = LAYOUT | {
        "height": height,
        "margin": {"t": 8, "b": 8, "l": 8, "r": 8},
        "hovermode": "closest",
        "xaxis": _axis(columns, column_title) | {"tickangle": -45 if _are_long(columns) else 0},
        "yaxis": _axis(rows, row_title) | {"autorange": "reversed"},
    }
    return {"data": [trace], "layout": layout}


def _axis(names: Sequence[str], title: str) -> Chart:
    axis: Chart = {
        "title": {"text": title, "standoff": 8, "font": {"size": 12}},
        "fixedrange": True,
        "automargin": True,
        "showgrid": False,
        "zeroline": False,
        "linecolor": CLEAR,
        "tickcolor": CLEAR,
        "tickfont": {"size": 12 if len(names) <= 20 else 9},
    }
    if len(names) > NAMED:
        return axis | {"showticklabels": False}
    return axis | {"tickvals": [*range(len(names))], "ticktext": [plain(name, NAME_LENGTH) for name in names]}


def _are_long(names: Sequence[str]) -> bool:
    return sum(map(len, names)) > 24
