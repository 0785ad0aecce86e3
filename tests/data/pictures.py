"""Small images for the tests of this folder, encoded in memory."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def random_pixels(seed: int, height: int = 12, width: int = 12) -> NDArray[np.uint8]:
    """Noise, [height, width, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(seed: int, height: int = 12, width: int = 12) -> bytes:
    """A PNG file of noise."""
    return encoded(Image.fromarray(random_pixels(seed, height, width)))


def write_class_folders(root: Path, classes: dict[str, int]) -> None:
    """So many PNG files in each class folder."""
    seed = 0
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            (root / name / f"{number:03d}.png").write_bytes(png(seed))
            seed += 1
