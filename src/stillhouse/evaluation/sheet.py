"""Many small images as one file."""

import io
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from stillhouse.data.store import ImageStore

SIZES = ((48, 70), (48, 50), (40, 50), (32, 50), (24, 50), (16, 50))
"""Sides of small images in pixels and qualities of their WebP sheet, tried in turn until it is within `BUDGET`."""
BUDGET = 420_000
"""Bytes of the sheet, so that the page stays small."""


def contact_sheet(store: ImageStore, rows: Tensor) -> tuple[NDArray[np.uint8], int]:
    """All images of `rows` (int64 `[N]`) on one WebP sheet, and how many lie side by side."""
    columns = math.ceil(math.sqrt(len(rows)))
    images = [Image.fromarray(np.ascontiguousarray(each.permute(0, 2, 1).numpy())) for each in store.gather(rows).cpu()]
    for side, quality in SIZES:
        written = _sheet(images, columns, min(side, store.size), quality)
        if len(written) <= BUDGET:
            break
    return np.frombuffer(written, np.uint8), columns


def _sheet(images: Sequence[Image.Image], columns: int, side: int, quality: int) -> bytes:
    sheet = Image.new("RGB", (columns * side, math.ceil(len(images) / columns) * side))
    for place, image in enumerate(images):
        small = image if image.width == side else image.resize((side, side), Image.Resampling.LANCZOS)
        sheet.paste(small, (place % columns * side, place // columns * side))
    file = io.BytesIO()
    sheet.save(file, "WEBP", quality=quality, method=4)
    return file.getvalue()
