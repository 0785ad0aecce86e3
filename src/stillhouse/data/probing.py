"""What follows from a look at a few images: the sizes to work at, and whether decoding takes long."""

from collections.abc import Iterator

import numpy as np

from stillhouse.data.decode import BadImage, probe
from stillhouse.data.sources import Source
from stillhouse.errors import DataError

NUM_PROBED = 64
SMALL_SIDE = 96
LARGE_SIZES = (256, 224)
SECONDS_PER_IMAGE, SECONDS_PER_PIXEL = 7e-5, 9e-9


def probe_size(source: Source) -> tuple[int, int]:
    """Sizes that fit the images, from a look at the heads of up to 64 of them.

    Returns:
        side in pixels at which to store the images, and side at which to train: both the largest side, rounded up to a
        multiple of 8 and at least 16, where no side exceeds 96; else 256 and 224.

    Raises:
        DataError: no image has a readable head.
    """
    largest = max((max(sides) for sides in _probed(source)), default=0)
    if not largest:
        raise DataError(f"data: none of {len(source)} images can be read; check the files")
    if largest > SMALL_SIDE:
        return LARGE_SIZES
    side = max(16, -(-largest // 8) * 8)
    return side, side


def fit_sizes(source: Source, image_size: int = 0) -> tuple[int, int]:
    """Side in pixels at which to store the images, and side at which to work.

    Args:
        source: the images.
        image_size: side to work at; 0 follows the images. Of large images as much is kept around a larger view as
            around the usual one; small ones are stored as they are and enlarged when they are seen.
    """
    store_size, suited = probe_size(source)
    if image_size > suited < store_size:
        store_size = -(-image_size * store_size // suited)
    return store_size, image_size or suited


def decode_seconds(source: Source, count: int) -> float:
    """Rough seconds that decoding `count` images takes on one core, from a look at up to 64 of them."""
    pixels = [height * width for height, width in _probed(source)]
    return count * (SECONDS_PER_IMAGE + SECONDS_PER_PIXEL * float(np.mean(pixels or [0])))


def _probed(source: Source) -> Iterator[tuple[int, int]]:
    """Height and width of up to 64 good images, spread over the source; all are tried where the spread finds none."""
    spread = np.unique(np.linspace(0, len(source) - 1, NUM_PROBED).round().astype(int))
    found = False
    for position in spread.tolist():
        if sides := _sides(source, position):
            found = True
            yield sides
    remaining = () if found else (position for position in range(len(source)))
    yield from (sides for position in remaining if (sides := _sides(source, position)))


def _sides(source: Source, position: int) -> tuple[int, int] | None:
    try:
        return probe(source.read(position))
    except (BadImage, OSError):
        return None
