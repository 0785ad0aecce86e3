"""Pictures of images of a store, in the shape of their originals."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from stillhouse.data.store import ImageStore


def thumbnails(store: ImageStore, rows: Sequence[int]) -> list[NDArray[np.uint8]]:
    """One picture uint8 `[H, W, 3]` for each row, its longer side that of the store."""
    if not rows:
        return []
    wanted = torch.tensor(rows)
    pixels = store.gather(wanted)  # sizes of images that are decoded anew are known afterwards
    return [unsquashed(each, *size) for each, size in zip(pixels.cpu(), store.sizes[wanted].tolist(), strict=True)]


def unsquashed(pixels: Tensor, height: int, width: int) -> NDArray[np.uint8]:
    """A stored image `[S, 3, S]` in the proportions of its original, uint8 `[H, W, 3]`."""
    image = Image.fromarray(np.ascontiguousarray(pixels.permute(0, 2, 1).numpy()))
    longest = max(height, width, 1)
    shape = max(1, round(width * image.width / longest)), max(1, round(height * image.width / longest))
    return np.asarray(image if image.size == shape else image.resize(shape, Image.Resampling.BICUBIC))
