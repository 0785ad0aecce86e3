"""The 1,797 handwritten digits, 8 x 8 pixels, that scikit-learn carries: images without a download."""

import importlib.util
import io
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stillhouse.data.sources import Rejected, Source, digest, nearest
from stillhouse.errors import DataError

TEST_SHARE = 0.2
SPLIT_SEED = 0


class DigitsSource(Source):
    """Digits as gray PNG images.

    Args:
        split: empty for all, `train` (1,438) or `test` (359); the split is fixed.
    """

    def __init__(self, split: str) -> None:
        if split not in {"", "train", "test"}:
            hint = nearest(split, ("train", "test"))
            raise DataError(f"data: digits has no split {split!r}{hint}; there are: test, train")
        self.split = split

    @cached_property
    def _data(self) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
        """Pixels [N, 8, 8], labels [N] and rows in the whole set [N]."""
        table = _table()
        images, labels = table[:, :-1], table[:, -1]
        order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
        num_test = round(TEST_SHARE * len(labels))
        rows = np.sort({"": order, "test": order[:num_test], "train": order[num_test:]}[self.split])
        pixels = np.round(images[rows].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
        return pixels, labels[rows], rows

    @cached_property
    def ids(self) -> Sequence[str]:
        return [f"digits/{row:04d}" for row in self._data[2]]

    @property
    def labels(self) -> NDArray[np.int64]:
        return self._data[1]

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(str(digit) for digit in range(10))

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        return ()

    @property
    def fingerprint(self) -> str:
        return digest(["digits", self.split, TEST_SHARE, SPLIT_SEED])

    def read(self, position: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(self._data[0][position]).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()


def _table() -> NDArray[np.int64]:
    """64 pixels from 0 to 16 and the digit, [1797, 65], from scikit-learn's file.

    Importing scikit-learn for it would take a second and change environment variables.
    """
    found = importlib.util.find_spec("sklearn")
    folders = found.submodule_search_locations if found and found.submodule_search_locations else []
    files = [file for folder in folders if (file := Path(folder) / "datasets" / "data" / "digits.csv.gz").is_file()]
    if not files:
        raise DataError("data: digits are not in this installation of scikit-learn; install scikit-learn again")
    return np.loadtxt(files[0], delimiter=",", dtype=np.float64).astype(np.int64)
