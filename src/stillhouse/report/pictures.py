"""Small PNG pictures inside the page."""

import base64
import io
import math

import numpy as np
from PIL import Image

from stillhouse.report.facts import Samples
from stillhouse.report.markup import Html, picture, tag

BUDGET = 500_000  # bytes of pixels in all pictures together, which PNG stays below
LARGEST_SIDE = 128  # pixels
NUM_IMAGES = 8
NUM_VIEWS = 12


def contact_sheet(samples: Samples) -> Html:
    """One row of originals and one row per view, a column per image."""
    count, shown = min(len(samples.originals), NUM_IMAGES), samples.views[:NUM_VIEWS]
    side = largest_side(count * (1 + len(shown)))
    rows = [_row("original", samples.originals[:count], side)]
    rows += [_row(f"view {number}", view[:count], side) for number, view in enumerate(shown, 1)]
    return tag("div", *rows, class_="sheet")


def largest_side(count: int) -> int:
    """Side in pixels to which `count` pictures are shrunk so that all stay within `BUDGET`."""
    return min(LARGEST_SIDE, max(1, math.isqrt(BUDGET // (3 * max(1, count)))))


def png_uri(pixels: np.ndarray, side: int) -> str:
    """A picture uint8 `[H, W, 3]`, shrunk to at most `side` pixels, as a data URI."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _row(name: str, images: np.ndarray, side: int) -> Html:
    cells = [
        picture(png_uri(image, side), f"{name} of image {number}", "pixelated" if max(image.shape) <= 96 else "smooth")
        for number, image in enumerate(images, 1)
    ]
    return tag("div", tag("span", name, class_="row-name"), *cells, class_="sheet-row")
