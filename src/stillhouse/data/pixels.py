"""Decoded images by index: held in memory or mapped from a file, or decoded anew for every batch.

Letters: N images, B images of a batch, S side in pixels.
"""

import copy
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillhouse.data.cachefile import Catalog
from stillhouse.data.decode import BadImage
from stillhouse.data.filling import decode_at, map_in_order
from stillhouse.data.sources import Rejected, Source
from stillhouse.errors import DataError


class ImageStore(ABC):
    """Images of one size by index: each is squashed to S x S, and its own geometry is in `sizes`."""

    size: int
    """Side S in pixels."""
    device: torch.device
    """Where batches live; `sizes` and `labels` stay on the CPU."""
    sizes: Tensor
    """Height and width of the original in pixels, int64 [N, 2]."""
    labels: Tensor
    """Class, int64 [N]; -1 where unknown or hidden."""
    classes: tuple[str, ...]
    ids: list[str]
    stand_ins: Tensor
    """Position of the image that is handed out for each, int64 [N]: its own, unless it turned out bad."""

    @property
    @abstractmethod
    def rejected(self) -> tuple[Rejected, ...]:
        """Images that are not used, known so far."""

    @abstractmethod
    def gather(self, index: Tensor) -> Tensor:
        """One batch, uint8 [B, S, 3, S]: rows, channels, columns.

        Args:
            index: [B], any integer type, on any device.
        """

    @abstractmethod
    def batches(self, indices: Iterable[Tensor]) -> Iterator[Tensor]:
        """One batch, as from `gather`, for each of `indices`, which may be drawn ahead."""

    @abstractmethod
    def to(self, device: torch.device | str) -> "ImageStore":
        """The same images with batches on `device`."""

    def knowing(self, rows: Tensor) -> Self:
        """The same images, of which only `rows` (positions, int64) keep their labels."""
        known = copy.copy(self)
        known.labels = torch.full_like(self.labels, -1)
        known.labels[rows] = self.labels[rows]
        return known

    def __len__(self) -> int:
        return len(self.ids)


class HeldStore(ImageStore):
    """Pixels in memory, on the device, or mapped from a cache file.

    Args:
        pixels: [N, S, 3, S]; read-only where they are mapped.
        catalog: what is known of the images.
        labels: whether labels and classes are shown.
    """

    def __init__(self, pixels: NDArray[np.uint8], catalog: Catalog, labels: bool) -> None:
        self.size, self.device = pixels.shape[1], torch.device("cpu")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nobody writes to it
            self._rows = torch.from_numpy(pixels).view(len(pixels), -1)
        self._mapped = isinstance(pixels, np.memmap)
        self._catalog, self._shown = catalog, labels
        self.ids, self.sizes = catalog.ids, torch.from_numpy(catalog.sizes)
        self.stand_ins = torch.arange(len(catalog.ids))
        self.labels, self.classes = _shown_labels(catalog.labels, catalog.classes, labels)

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        return self._catalog.rejected

    def gather(self, index: Tensor) -> Tensor:
        rows = self._rows.index_select(0, index.to(self._rows.device))
        return rows.view(-1, self.size, 3, self.size).to(self.device)

    def batches(self, indices: Iterable[Tensor]) -> Iterator[Tensor]:
        return map(self.gather, indices)

    def to(self, device: torch.device | str) -> "HeldStore":
        """The same images with batches on `device`; the pixels move there too unless they are mapped from a file."""
        moved = object.__new__(HeldStore)
        moved.__dict__.update(self.__dict__)
        moved.device = torch.device(device)
        if not self._mapped:
            moved._rows = self._rows.to(moved.device)
        return moved


@dataclass(frozen=True)
class FreshBatch:
    """Images decoded for one batch; a bad one is replaced by the next good one of the store."""

    pixels: NDArray[np.uint8]
    """[B, S, 3, S]."""
    sizes: NDArray[np.int64]
    """Height and width of what is in `pixels`, [B, 2]."""
    used: NDArray[np.int64]
    """Index of what is in `pixels`, [B]; -1 where the store has no good image left."""
    bad: dict[int, str]
    """Reason by index of the images that were passed over."""


@dataclass(frozen=True)
class FreshDecoder:
    """Decodes the images of a batch by their index in the store."""

    source: Source
    positions: NDArray[np.int64]
    size: int

    def __call__(self, index: Sequence[int]) -> FreshBatch:
        pixels = np.empty((len(index), self.size, 3, self.size), dtype=np.uint8)
        sizes, used, bad = np.empty((len(index), 2), dtype=np.int64), np.empty(len(index), dtype=np.int64), {}
        for row, wanted in enumerate(index):
            for step in range(len(self.positions)):
                at = (wanted + step) % len(self.positions)
                try:
                    pixels[row], sizes[row] = decode_at(self.source, int(self.positions[at]), self.size)
                except BadImage as error:
                    bad[at] = str(error)
                    continue
                used[row] = at
                break
            else:
                used[row] = -1
        return FreshBatch(pixels, sizes, used, bad)


class FreshStore(ImageStore):
    """Nothing is kept: worker processes decode each batch when its turn comes.

    `sizes` of an image are those of a square until it was decoded first; they are known when its batch is handed out.
    An image that turns out bad takes pixels, size and label of the next good one, which `stand_ins` then names, and is
    listed in `rejected`.

    Args:
        source: encoded images.
        positions: position in the source of each image of the store, [N].
        size: side S in pixels.
        labels: whether labels and classes are shown.
        workers: processes that decode; 0 decodes in this one.
    """

    def __init__(self, source: Source, positions: NDArray[np.int64], size: int, labels: bool, workers: int) -> None:
        self.size, self.device, self.workers = size, torch.device("cpu"), workers
        self.ids = [source.ids[position] for position in positions]
        self.labels, self.classes = _shown_labels(source.labels[positions], source.classes, labels)
        self.sizes = torch.full((len(positions), 2), size, dtype=torch.int64)
        self.stand_ins = torch.arange(len(positions))
        self._listed, self._bad = source.rejected, dict[int, str]()
        self._decode = FreshDecoder(source, positions, size)

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        return self._listed + tuple(Rejected(self.ids[at], self._bad[at]) for at in sorted(self._bad))

    def gather(self, index: Tensor) -> Tensor:
        wanted = index.tolist()
        return self._take(wanted, self._decode(wanted))

    def batches(self, indices: Iterable[Tensor]) -> Iterator[Tensor]:
        asked: list[list[int]] = []
        parts = (_noted(index.tolist(), asked) for index in indices)
        for batch in map_in_order(self._decode, parts, self.workers):
            yield self._take(asked.pop(0), batch)

    def to(self, device: torch.device | str) -> "FreshStore":
        """The same images with batches on `device`; both stores learn of bad images together."""
        moved = object.__new__(FreshStore)
        moved.__dict__.update(self.__dict__)
        moved.device = torch.device(device)
        return moved

    def _take(self, wanted: list[int], batch: FreshBatch) -> Tensor:
        """Note what decoding showed, then hand out the pixels."""
        if (batch.used < 0).any():
            raise DataError(f"data: none of {len(self)} images can be read any more; check the disk, then resume")
        index, used = torch.tensor(wanted, dtype=torch.int64), torch.from_numpy(batch.used)
        self.sizes[index] = torch.from_numpy(batch.sizes)
        self.labels[index], self.stand_ins[index] = self.labels[used], used
        self._bad.update(batch.bad)
        return torch.from_numpy(batch.pixels).to(self.device)


def _noted(index: list[int], asked: list[list[int]]) -> list[int]:
    asked.append(index)
    return index


def _shown_labels(labels: NDArray[np.int64], classes: tuple[str, ...], shown: bool) -> tuple[Tensor, tuple[str, ...]]:
    if shown:
        return torch.from_numpy(labels.copy()), classes
    return torch.full((len(labels),), -1, dtype=torch.int64), ()
