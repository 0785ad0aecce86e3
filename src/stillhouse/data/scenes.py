"""Generated scenes: a few handwritten digits of one kind, in any place, size, slant and colour, on a coloured ground.

Made for showing, without a download, what learning adds. A scene holds several digits of one class, each written by
another hand, and its label is that class. Raw pixels say little about it: place, size, slant and colours are drawn anew
for every digit, the ground for every scene, and no two scenes share a layout. What two crops of one scene have in
common is the class, so contrastive learning can find it; this is what makes scenes an easy school, and their scores
say nothing about photographs.

Letters: N scenes, M digits to choose from, K places in a scene, P pixels of a place, S side of a scene.
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
PLACE = 14  # pixels a side that a digit may fill
ROWS = 3  # of places drawn, of which a window of SIDE pixels is kept
NUM_SCENES = {"train": 6000, "test": 1000}
VERSION = 1

Floats = NDArray[np.float32]


class ScenesSource(Source):
    """Scenes as colour PNG images of 32 pixels; the same ones every time.

    Args:
        split: `train` (6,000 scenes of the digits in `digits#train`) or `test` (1,000 of those in `digits#test`), so
            that no handwriting is in both; empty is `train`.
    """

    def __init__(self, split: str) -> None:
        if split not in {"", *NUM_SCENES}:
            raise DataError(f"data: scenes has no split {split!r}{nearest(split, NUM_SCENES)}; there are: test, train")
        self.split = split or "train"

    @cached_property
    def _pixels(self) -> NDArray[np.uint8]:
        """All scenes, [N, S, S, 3]."""
        digits = DigitsSource(self.split)
        glyphs = np.stack([np.asarray(Image.open(io.BytesIO(digits.read(row)))) for row in range(len(digits))])
        random = np.random.default_rng([VERSION, list(NUM_SCENES).index(self.split)])
        return draw_scenes(glyphs, digits.labels, self.labels, random)

    @cached_property
    def ids(self) -> Sequence[str]:
        return [f"scenes/{self.split}/{number:04d}" for number in range(NUM_SCENES[self.split])]

    @property
    def labels(self) -> NDArray[np.int64]:
        return np.arange(NUM_SCENES[self.split], dtype=np.int64) % 10

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(str(digit) for digit in range(10))

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        return ()

    @property
    def fingerprint(self) -> str:
        return digest(["scenes", self.split, VERSION])

    def read(self, position: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(self._pixels[position]).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()


def draw_scenes(
    glyphs: NDArray[np.uint8], kinds: NDArray[np.int64], labels: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.uint8]:
    """Draw a scene for each label.

    Args:
        glyphs: handwritten digits, bright on black, uint8 [M, 8, 8].
        kinds: class of each, [M].
        labels: wanted class of each scene, [N].
        random: where every choice comes from.

    Returns:
        uint8 [N, S, S, 3].
    """
    ground, ink = _colors(len(labels), random)
    cover = _window(_places(glyphs, _choose(kinds, labels, random), random), random)
    color = _window(np.broadcast_to(ink[:, :, None, None, :], (*ink.shape[:2], PLACE, PLACE, 3)), random)
    return cover, color, ground
