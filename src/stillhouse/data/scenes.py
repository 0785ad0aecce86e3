"""Generated scenes: handwritten digits of one kind, each by another hand and in another colour, on a coloured ground.

Made to show, without a download, what learning adds. A scene is a window on a sheet of nine digits of one class, and
its label is that class. Raw pixels say little about it: window, place, size, slant, ink and ground are drawn anew, ink
is now darker and now brighter than its ground, and colours change within a scene as much as between scenes. What two
crops of a scene have in common is the kind of digit and hardly anything else, so that telling scenes apart by their
crops teaches the classes. This makes scenes an easy school: scores here say that learning works, not how well it would
do on photographs.

Letters: N scenes, K digits on a sheet, M digits to choose from, P side of a digit's place, S side of a scene, G knots
of the ground's colour along a side.
"""

import io
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stillhouse.data.digits import DigitsSource
from stillhouse.data.sources import Rejected, Source, digest, nearest
from stillhouse.errors import DataError

SIDE = 32
PLACE = 14
PLACES = 3  # along a side of the sheet
KNOTS = 4
MARGIN = 2  # empty pixels around a digit of 8 x 8
NUM_SCENES = {"train": 6_000, "test": 1_000}
VERSION = 1  # to be raised when the drawing changes

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
Bytes = NDArray[np.uint8]


class ScenesSource(Source):
    """Scenes as colour PNG images of 32 pixels, the same every time.

    Args:
        split: `train` (6,000 scenes made of `digits#train`), also when empty, or `test` (1,000 made of `digits#test`):
            no handwriting is in both.
    """

    def __init__(self, split: str) -> None:
        if split not in {"", *NUM_SCENES}:
            raise DataError(f"data: scenes has no split {split!r}{nearest(split, NUM_SCENES)}; there are: test, train")
        self.split = split or "train"

    @cached_property
    def _pixels(self) -> Bytes:
        """All scenes, [N, S, S, 3]."""
        digits = DigitsSource(self.split)
        glyphs = np.stack([np.asarray(Image.open(io.BytesIO(digits.read(row)))) for row in range(len(digits))])
        random = np.random.default_rng([VERSION, list(NUM_SCENES).index(self.split)])
        return draw_scenes(glyphs, digits.labels, self.labels, random)

    @cached_property
    def ids(self) -> Sequence[str]:
        return [f"scenes/{self.split}/{number:04d}" for number in range(NUM_SCENES[self.split])]

    @property
    def labels(self) -> Integers:
        return np.arange(NUM_SCENES[self.split], dtype=np.int64) % 10

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(str(digit) for digit in range(10))

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


def draw_scenes(glyphs: Bytes, kinds: Integers, labels: Integers, random: np.random.Generator) -> Bytes:
    """Draw one scene for each label.

    Args:
        glyphs: handwritten digits, bright on black, [M, 8, 8].
        kinds: class of each, [M].
        labels: class wanted of each scene, [N].
        random: decides everything else.

    Returns:
        [N, S, S, 3].
    """
    scenes = [_draw(glyphs, kinds, part, random) for part in np.array_split(labels, -(-len(labels) // 500))]
    return np.concatenate(scenes)  # in parts, so that what is worked on stays small


def _draw(glyphs: Bytes, kinds: Integers, labels: Integers, random: np.random.Generator) -> Bytes:
    count, sheet = len(labels), PLACES * PLACE
    top, left = random.integers(0, sheet - SIDE + 1, (2, count, 1)) + np.arange(SIDE)
    rows, columns = top[:, :, None], left[:, None, :]
    scene = np.arange(count)[:, None, None]

    places = _write(glyphs, _choose(kinds, labels, random), random)
    cover = places.reshape(count, PLACES, PLACES, PLACE, PLACE).swapaxes(2, 3).reshape(count, sheet, sheet)
    cover = cover[scene, rows, columns][..., None]

    knots = random.uniform(0.1, 0.9, (count, KNOTS, KNOTS, 3)).astype(np.float32)
    middles = np.broadcast_to(np.arange(PLACES) * PLACE + (PLACE - 1) / 2, (count, PLACES))
    ink = _contrasting(_ground(knots, middles, middles), random).reshape(count, -1, 3)
    ink = ink[scene, rows // PLACE * PLACES + columns // PLACE]
    noise = random.normal(0.0, 0.03, (count, SIDE, SIDE, 1)).astype(np.float32)
    pixels = _ground(knots, top, left) * (1 - cover) + ink * cover + noise
    return np.round(255 * pixels.clip(0, 1)).astype(np.uint8)


def _choose(kinds: Integers, labels: Integers, random: np.random.Generator) -> Integers:
    """Positions of digits of the wanted classes, [N, K]."""
    chosen = np.empty((len(labels), PLACES**2), dtype=np.int64)
    for kind in np.unique(labels):
        wanted = labels == kind
        chosen[wanted] = random.choice(np.flatnonzero(kinds == kind), (np.count_nonzero(wanted), PLACES**2))
    return chosen


def _write(glyphs: Bytes, chosen: Integers, random: np.random.Generator) -> Floats:
    """How much ink lies on each pixel of each place, [N * K, P, P]: the digits turned, scaled, moved, interpolated."""
    count = chosen.size
    scale, angle, down, right = (
        random.uniform(low, high, (count, 1, 1)).astype(np.float32)
        for low, high in ((0.75, 1.05), (-0.35, 0.35), (-0.15, 0.15), (-0.15, 0.15))
    )
    place = ((np.arange(PLACE, dtype=np.float32) + 0.5) / PLACE) * 2 - 1
    y, x = (place[:, None] - down) / scale, (place[None, :] - right) / scale
    padded = np.pad(glyphs.astype(np.float32) / 255, ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)))
    side = padded.shape[1]
    half, last = (side - 3) / 2, np.float32(side - 1.001)  # half a place shows half a digit and half a pixel more
    y, x = (
        (turned * half + (side - 1) / 2).clip(0, last)
        for turned in (np.cos(angle) * y - np.sin(angle) * x, np.sin(angle) * y + np.cos(angle) * x)
    )
    row, column = y.astype(np.int32), x.astype(np.int32)
    start = chosen.reshape(-1, 1, 1) * side**2 + row * side + column
    y, x, ink = y - row, x - column, padded.ravel()
    upper = (1 - x) * ink[start] + x * ink[start + 1]
    lower = (1 - x) * ink[start + side] + x * ink[start + side + 1]
    return (1.3 * ((1 - y) * upper + y * lower)).clip(0, 1)


def _ground(knots: Floats, rows: NDArray[np.generic], columns: NDArray[np.generic]) -> Floats:
    """Colour of the ground at rows [N, A] and columns [N, B] of the sheet, between knots [N, G, G, 3]: [N, A, B, 3]."""
    across = _weights(columns)[:, None] @ knots  # [N, G, B, 3]
    return np.einsum("nag,ngbc->nabc", _weights(rows), across, optimize=True)


def _weights(positions: NDArray[np.generic]) -> Floats:
    """Share of each knot at positions [N, A] on the sheet, in pixels: [N, A, G]; linear between neighbours."""
    spot = (positions.astype(np.float32) + 0.5) / (PLACES * PLACE) * (KNOTS - 1)
    return (1 - np.abs(spot[..., None] - np.arange(KNOTS, dtype=np.float32))).clip(0, 1)


def _contrasting(under: Floats, random: np.random.Generator) -> Floats:
    """A colour for each [..., 3], bright on a dark one and dark on a bright one."""
    bright = under @ np.array([0.30, 0.59, 0.11], np.float32) < 0.5
    shade = random.uniform(0.0, 0.4, under.shape).astype(np.float32)
    return np.where(bright[..., None], 1 - shade, shade)
