"""Generated scenes: nine shapes of one kind, in any place, size, direction and colour, on a ground of many colours.

Made to show, without a download, what learning adds. A scene is a window on a sheet of nine shapes of one class, and
its label is that class. Raw pixels say little about it: window, place, size, direction, colour and ground are drawn
anew, a shape is now darker and now brighter than its ground, and colours change within a scene as much as between
scenes. What two crops of a scene have in common is the kind of shape and little else, so that telling scenes apart by
their crops teaches the classes. This makes scenes an easy school: scores here say that learning works, not how well it
would do on photographs.

Letters: N scenes, K shapes on a sheet, C classes, P side of a shape's place, S side of a scene, G knots of the ground's
colour along a side.
"""

import io
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stillhouse.data.sources import Rejected, Source, digest, nearest
from stillhouse.errors import DataError

CLASSES = ("disc", "ring", "square", "frame", "triangle", "cross", "bar", "corner", "half", "dots")
NUM_SCENES = {"train": 6_000, "test": 1_000}
SIDE = 32
PLACE = 14
PLACES = 3  # along a side of the sheet
KNOTS = 4
NUM_AT_ONCE = 500
VERSION = 1  # to be raised when the drawing changes

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.int64]
Bytes = NDArray[np.uint8]


class ScenesSource(Source):
    """Scenes as colour PNG images of 32 pixels, as many of each class, the same every time.

    Args:
        split: `train` (6,000 scenes), also when empty, or `test` (1,000); every scene is drawn anew.
    """

    def __init__(self, split: str) -> None:
        if split not in {"", *NUM_SCENES}:
            raise DataError(f"data: scenes has no split {split!r}{nearest(split, NUM_SCENES)}; there are: test, train")
        self.split = split or "train"

    @cached_property
    def _pixels(self) -> Bytes:
        """All scenes, [N, S, S, 3]."""
        return draw_scenes(self.labels, np.random.default_rng([VERSION, list(NUM_SCENES).index(self.split)]))

    @cached_property
    def ids(self) -> Sequence[str]:
        return [f"scenes/{self.split}/{number:04d}" for number in range(NUM_SCENES[self.split])]

    @property
    def labels(self) -> Integers:
        return np.arange(NUM_SCENES[self.split], dtype=np.int64) % len(CLASSES)

    @property
    def classes(self) -> tuple[str, ...]:
        return CLASSES

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        return ()

    @property
    def fingerprint(self) -> str:
        return digest(["scenes", self.split, VERSION, NUM_SCENES[self.split]])

    def read(self, position: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(self._pixels[position]).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()


def draw_scenes(labels: Integers, random: np.random.Generator) -> Bytes:
    """Draw one scene for each label.

    Args:
        labels: position in `CLASSES` of the wanted shape, [N].
        random: decides everything else.

    Returns:
        [N, S, S, 3].
    """
    parts = np.array_split(labels, -(-len(labels) // NUM_AT_ONCE))  # so that what is worked on stays small
    return np.concatenate([_draw(part, random) for part in parts])


def _draw(labels: Integers, random: np.random.Generator) -> Bytes:
    count, sheet = len(labels), PLACES * PLACE
    top, left = random.integers(0, sheet - SIDE + 1, (2, count, 1)) + np.arange(SIDE)
    scene, rows, columns = np.arange(count)[:, None, None], top[:, :, None], left[:, None, :]

    cover = _cover(labels, random).reshape(count, PLACES, PLACES, PLACE, PLACE)
    cover = cover.swapaxes(2, 3).reshape(count, sheet, sheet)[scene, rows, columns][..., None]

    knots = random.uniform(0.25, 0.75, (count, KNOTS, KNOTS, 3)).astype(np.float32)
    middles = np.broadcast_to(np.arange(PLACES) * PLACE + (PLACE - 1) / 2, (count, PLACES))
    ink = _contrasting(_ground(knots, middles, middles), random).reshape(count, -1, 3)
    ink = ink[scene, rows // PLACE * PLACES + columns // PLACE]
    noise = random.normal(0.0, 0.03, (count, SIDE, SIDE, 1)).astype(np.float32)
    pixels: Floats = _ground(knots, top, left) * (1 - cover) + ink * cover + noise
    return np.round(255 * pixels.clip(0, 1)).astype(np.uint8)


def _cover(labels: Integers, random: np.random.Generator) -> Floats:
    """Share of each pixel of each place that its shape covers, [N, K, P, P]; shapes turned, scaled and moved."""
    scale, angle, down, right = (
        random.uniform(low, high, (len(labels), PLACES**2, 1, 1)).astype(np.float32)
        for low, high in ((0.55, 0.9), (-np.pi, np.pi), (-0.15, 0.15), (-0.15, 0.15))
    )
    place = (np.arange(PLACE, dtype=np.float32) + 0.5) / PLACE * 2 - 1
    y, x = (place[:, None] - down) / scale, (place[None, :] - right) / scale
    y, x = np.cos(angle) * y - np.sin(angle) * x, np.sin(angle) * y + np.cos(angle) * x
    inside = np.empty_like(y)
    for kind in np.unique(labels):
        chosen = labels == kind
        inside[chosen] = _depth(CLASSES[kind], y[chosen], x[chosen])
    return (0.5 + inside * scale * (PLACE / 2)).clip(0, 1)  # an edge is about a pixel wide


def _depth(shape: str, y: Floats, x: Floats) -> Floats:
    """How far points lie inside a shape that reaches about 1 from its middle; negative outside."""
    radius, square = np.hypot(x, y), np.maximum(abs(x), abs(y))
    bar = np.minimum(0.25 - abs(x), 1.0 - abs(y))
    depth: Floats
    match shape:
        case "disc":
            depth = 0.95 - radius
        case "ring":
            depth = 0.22 - abs(radius - 0.75)
        case "square":
            depth = 0.8 - square
        case "frame":
            depth = 0.2 - abs(square - 0.7)
        case "triangle":
            depth = np.minimum(0.7 - y, (y + 1.0 - 2 * abs(x)) / math.sqrt(5))
        case "cross":
            depth = np.maximum(bar, np.minimum(0.25 - abs(y), 1.0 - abs(x)))
        case "bar":
            depth = bar
        case "corner":
            depth = np.minimum(0.85 - square, np.maximum(-0.35 - x, y - 0.35))
        case "half":
            depth = np.minimum(0.95 - radius, y)
        case "dots":
            depth = 0.36 - np.hypot(abs(x) - 0.55, abs(y) - 0.55)
        case _:
            raise AssertionError(shape)
    return depth


def _ground(knots: Floats, rows: NDArray[np.generic], columns: NDArray[np.generic]) -> Floats:
    """Colour of the ground at rows [N, A] and columns [N, B] of the sheet, between knots [N, G, G, 3]: [N, A, B, 3]."""
    across = _weights(columns)[:, None] @ knots  # [N, G, B, 3]
    ground: Floats = np.einsum("nag,ngbc->nabc", _weights(rows), across, optimize=True)
    return ground


def _weights(positions: NDArray[np.generic]) -> Floats:
    """Share of each knot at positions [N, A] on the sheet, in pixels: [N, A, G]; linear between neighbours."""
    spot = (positions.astype(np.float32) + 0.5) / (PLACES * PLACE) * (KNOTS - 1)
    return (1 - np.abs(spot[..., None] - np.arange(KNOTS, dtype=np.float32))).clip(0, 1)


def _contrasting(under: Floats, random: np.random.Generator) -> Floats:
    """A colour for each [..., 3], bright on a dark one and dark on a bright one."""
    is_dark = under @ np.array([0.30, 0.59, 0.11], np.float32) < 0.5
    shade = random.uniform(0.0, 0.4, under.shape).astype(np.float32)
    return np.where(is_dark[..., None], 1 - shade, shade)
