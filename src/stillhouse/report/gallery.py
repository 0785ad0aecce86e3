"""One self-contained page of pictures in groups: what was found by a search, as duplicates, or as clusters."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stillhouse.files import write_atomically
from stillhouse.report.frame import framed
from stillhouse.report.markup import Html, joined, picture, tag
from stillhouse.report.pictures import largest_side, png_uri

SMALL = 96
"""Up to this side in pixels a picture is enlarged without being smoothed."""


@dataclass(frozen=True)
class Shown:
    """A picture with the words below it."""

    pixels: np.ndarray
    """uint8 `[H, W, 3]`."""
    name: str
    words: str = ""


@dataclass(frozen=True)
class Row:
    """Pictures that belong together."""

    title: str
    words: str
    pictures: Sequence[Shown]


@dataclass(frozen=True)
class Gallery:
    """Everything on the page; plain text, not yet HTML."""

    title: str
    facts: Sequence[tuple[str, str]]
    """Short facts below the title: what, how much."""
    lead: str
    rows: Sequence[Row]
    note: str = ""
    """What is not shown, if anything."""


def write_gallery(path: Path, gallery: Gallery) -> None:
    """Write the page, which needs no other file and no network.

    Raises:
        RunError: it cannot be written.
    """
    write_atomically(path, render(gallery).encode("utf-8", "replace"))


def render(gallery: Gallery) -> str:
    """The page as text; it has no script."""
    side = largest_side(sum(len(row.pictures) for row in gallery.rows))
    facts = [tag("li", tag("span", name), Html(" "), value) for name, value in gallery.facts]
    head = tag("header", tag("h1", gallery.title), tag("ul", *facts, class_="facts"))
    large = next((at for at in range(len(gallery.rows)) if _are_small(gallery.rows[at:])), len(gallery.rows))
    parts = [head, tag("p", gallery.lead, class_="lead"), *(_row(row, side) for row in gallery.rows[:large])]
    if large < len(gallery.rows):
        parts.append(tag("section", tag("div", *(_row(row, side) for row in gallery.rows[large:]), class_="walls")))
    if gallery.note:
        parts.append(tag("p", gallery.note, class_="quiet"))
    return framed(gallery.title, joined(parts))


def _are_small(rows: Sequence[Row]) -> bool:
    """Whether these may stand side by side."""
    return len(rows) > 1 and all(len(row.pictures) <= 2 for row in rows)


def _row(row: Row, side: int) -> Html:
    words = [tag("p", row.words)] if row.words else []
    return tag(
        "section", tag("h2", row.title), *words, tag("div", *(_card(it, side) for it in row.pictures), class_="wall")
    )


def _card(shown: Shown, side: int) -> Html:
    style = "pixelated" if max(shown.pixels.shape[:2]) <= SMALL else "smooth"
    below = [tag("span", shown.words)] if shown.words else []
    image = picture(png_uri(shown.pixels, side), shown.name, style)
    return tag("figure", image, tag("figcaption", tag("b", shown.name), *below))
