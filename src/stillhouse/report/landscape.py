"""The map of the embedding, one depth at a time, and the nearest neighbours of some images.

Letters: N images.
"""

import base64
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from stillhouse.report.atlas import Atlas
from stillhouse.report.charts import GROUP_COLORS, LAYOUT, QUIET_AXIS, Chart, plain
from stillhouse.report.markup import Html, tag
from stillhouse.report.wording import percent

HEIGHT = 520  # pixels
LISTED = 20  # classes in the legend; of more, one is chosen from a list
CROWD = 10  # neighbours on the map that tell how crowded a place is
CROWDS = ("loneliest sixth", "lonely", "rather lonely", "rather crowded", "crowded", "most crowded sixth")
SYMBOLS = ("circle", "diamond", "square", "cross", "triangle-up", "star", "x", "triangle-down", "pentagon", "hexagon")
PLACE = "map-0"


def section_parts(atlas: Atlas) -> tuple[Html, dict[str, Chart]]:
    """The map with its controls, and its chart by the id of its place."""
    groups = _groups(atlas)
    shown = int(atlas.blocks[_first(atlas)])
    told = (
        f"{len(atlas.ids):,} test images, each where t-SNE puts it: neighbours on the map are neighbours for the "
        "encoder, while large distances and sizes of clusters mean little. Point at an image to see it."
    )
    coloured = "" if atlas.is_labelled else f" Colour: how crowded its surroundings are at block {shown}."
    controls = tag("div", _layers(atlas, shown), _legend(atlas, groups), class_="controls")
    label = f"Map of {len(atlas.ids):,} test images at block {shown}"
    place = tag("div", id=PLACE, class_="chart", style=f"height: {HEIGHT}px", role="img", aria_label=label)
    tip = tag("div", tag("span", class_="tile"), tag("b"), tag("span", class_="quiet"), class_="tip", hidden="")
    content = tag("section", tag("h2", "Map of the embedding"), tag("p", told + coloured),
                  tag("div", place, controls, class_="landscape"), tip, id="map")  # fmt: skip
    return content, {PLACE: _chart(atlas, groups)}


def script_data(atlas: Atlas) -> Html:
    """What `atlas.js` reads: maps in thousandths, names, classes, and where on the sheet each image lies."""
    data: dict[str, Any] = {
        "blocks": atlas.blocks.tolist(),
        "points": [np.rint(1000 * _spread(each)).astype(int).ravel().tolist() for each in atlas.points],
        "names": [atlas.name_of(image) for image in range(len(atlas.ids))],
        "classes": [atlas.class_of(image) for image in range(len(atlas.ids))],
        "shapes": atlas.shapes.tolist(),
        "columns": int(atlas.columns[0]),
    }
    written = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return Html(f'<script type="application/json" id="atlas">{written}</script>')


def sheet_style(atlas: Atlas) -> str:
    """The style of every small image: one sheet, of which each shows its part."""
    held = base64.b64encode(atlas.sheet.astype(np.uint8).tobytes()).decode()
    size = f"{100 * int(atlas.columns[0])}% {100 * atlas.rows}%"
    return f".tile {{ background-image: url(data:image/webp;base64,{held}); background-size: {size}; }}"


def neighbours(atlas: Atlas) -> Html:
    """A row for each image that was asked for, its nearest neighbours beside it."""
    block, near = int(atlas.near_block[0]), atlas.neighbours.shape[1]
    said = f"{len(atlas.queries)} test images and their {near} nearest on the map, by cosine at block {block}."
    if atlas.is_labelled:
        same = atlas.labels[atlas.neighbours] == atlas.labels[atlas.queries][:, None]
        said += f" {percent(float(same.mean()))} of these are of the same class, as the marks tell."
    rows = [
        tag("div", _query(atlas, int(image)),
            *(_neighbour(atlas, int(image), int(other), float(cosine))
              for other, cosine in zip(found, likeness, strict=True)), class_="near-row")
        for image, found, likeness in zip(atlas.queries, atlas.neighbours, atlas.cosines, strict=True)
    ]  # fmt: skip
    return tag("section", tag("h2", "Nearest neighbours"), tag("p", said), tag("div", *rows, class_="near"), id="near")


def _query(atlas: Atlas, image: int) -> Html:
    name = atlas.class_of(image) or atlas.name_of(image)
    return tag("figure", tile(atlas, image), tag("figcaption", tag("b", name)), class_="query")


def _neighbour(atlas: Atlas, asked: int, image: int, cosine: float) -> Html:
    name = atlas.class_of(image)
    fate = ("same" if atlas.labels[asked] == atlas.labels[image] else "other") if name else "unknown"
    words = [tag("span", name, class_="class")] if fate == "other" else []
    return tag("figure", tile(atlas, image), tag("figcaption", f"{cosine:.2f}", *words), class_=fate)


def tile(atlas: Atlas, image: int) -> Html:
    """One small image in the proportions of its original."""
    columns, rows = int(atlas.columns[0]), atlas.rows
    across = 100 * (image % columns) / max(1, columns - 1)
    down = 100 * (image // columns) / max(1, rows - 1)
    height, width = atlas.shapes[image].tolist()
    words = ", ".join(filter(None, (atlas.name_of(image), atlas.class_of(image))))
    inside = f"background-position: {across:.4g}% {down:.4g}%; aspect-ratio: {width} / {height}"
    return tag("span", class_="tile", role="img", aria_label=words, style=inside)


def _groups(atlas: Atlas) -> list[tuple[str, np.ndarray]]:
    """Images by what colours them: their classes, or how crowded their surroundings are; each with its name."""
    if atlas.is_labelled:
        found = [(str(name), np.flatnonzero(atlas.labels == label)) for label, name in enumerate(atlas.classes)]
        return [(name, images) for name, images in found if len(images)]
    points = atlas.points[_first(atlas)].astype(np.float64)
    apart = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))
    alone = np.sort(apart, axis=1)[:, 1 : CROWD + 1].mean(axis=1)
    ranks = np.argsort(np.argsort(-alone, kind="stable"), kind="stable")
    parts = np.minimum(len(CROWDS) - 1, ranks * len(CROWDS) // len(ranks))
    return [(name, np.flatnonzero(parts == part)) for part, name in enumerate(CROWDS) if (parts == part).any()]


def _colors(atlas: Atlas, count: int) -> list[str]:
    shades = GROUP_COLORS if atlas.is_labelled else tuple(f"--depth-{number}" for number in range(1, 7))
    return [shades[number % len(shades)] for number in range(count)]


def _chart(atlas: Atlas, groups: Sequence[tuple[str, np.ndarray]]) -> Chart:
    """One trace for each group, at the depth that is shown first."""
    points = _spread(atlas.points[_first(atlas)])
    size = 7 if len(atlas.ids) <= 1500 else 5
    traces = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": plain(name),
            "x": [round(float(value), 3) for value in points[images, 0]],
            "y": [round(float(value), 3) for value in points[images, 1]],
            "customdata": images.tolist(),
            "hoverinfo": "none",
            "marker": {"color": color, "size": size, "opacity": 0.85, "symbol": _symbol(number)},
        }
        for number, ((name, images), color) in enumerate(zip(groups, _colors(atlas, len(groups)), strict=True))
    ]
    bare = QUIET_AXIS | {"visible": False, "range": [-1.06, 1.06]}
    margin = {"t": 0, "b": 0, "l": 0, "r": 0}
    axes = {"xaxis": bare, "yaxis": bare}
    return {"data": traces, "layout": LAYOUT | axes | {"height": HEIGHT, "margin": margin, "hovermode": "closest"}}


def _first(atlas: Atlas) -> int:
    """Which map is shown first: that of the depth whose neighbours are shown, or the nearest to it."""
    return int(np.argmin(np.abs(atlas.blocks - atlas.near_block[0])))


def _spread(points: np.ndarray) -> np.ndarray:
    """Points `[N, 2]` that fill [-1, 1] in both directions."""
    low, high = points.min(axis=0), points.max(axis=0)
    return np.asarray(2 * (points - low) / np.maximum(high - low, 1e-9) - 1)


def _symbol(number: int) -> str:
    return SYMBOLS[number // len(GROUP_COLORS) % len(SYMBOLS)]


def _layers(atlas: Atlas, shown: int) -> Html:
    buttons = [
        tag("button", str(block), type="button", data_layer=str(number), aria_pressed=str(block == shown).lower(),
            aria_label=f"Block {block}")
        for number, block in enumerate(atlas.blocks.tolist())
    ]  # fmt: skip
    return tag(
        "div", tag("span", "Block", class_="row-name"), *buttons, class_="switch", role="group", aria_label="Block"
    )


def _legend(atlas: Atlas, groups: Sequence[tuple[str, np.ndarray]]) -> Html:
    if len(groups) > LISTED:
        options = [tag("option", name, value=str(number)) for number, (name, _) in enumerate(groups)]
        everything = tag("option", f"all {len(groups)} classes", value="-1")
        return tag("label", tag("span", "Show", class_="row-name"), tag("select", everything, *options, id="map-class"))
    entries = [
        tag("button", name, tag("small", f"{len(images):,}"), type="button", data_group=str(number),
            aria_pressed="false", style=f"--swatch: var({color})")
        for number, ((name, images), color) in enumerate(zip(groups, _colors(atlas, len(groups)), strict=True))
    ]  # fmt: skip
    return tag("div", *entries, class_="keys", role="group", aria_label="Show one alone")
