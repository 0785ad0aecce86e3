"""Decoding many images, in this process or in several, without touching the random state of anyone.

Letters: B images of a chunk, S side in pixels.
"""

import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from stillhouse.data.decode import BadImage, decode
from stillhouse.data.sources import Rejected, Source
from stillhouse.errors import DataError

CHUNK_BYTES = 8 * 2**20
CHUNK_IMAGES = 256
UNREADABLE = "cannot be read"
"""How the reason begins where the disk refused; unlike a broken image, that may pass."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class DecodedChunk:
    """The good images among some positions, and the bad ones."""

    positions: NDArray[np.int64]
    """Position in the source, [B]."""
    pixels: NDArray[np.uint8]
    """[B, S, 3, S]: rows, channels, columns."""
    sizes: NDArray[np.int64]
    """Height and width of the original, [B, 2]."""
    rejected: tuple[Rejected, ...]

    def without_pixels(self) -> "DecodedChunk":
        """The same with no memory held for pixels that are stored elsewhere."""
        return replace(self, pixels=np.empty((0, *self.pixels.shape[1:]), dtype=np.uint8))


@dataclass(frozen=True)
class ChunkDecoder:
    """Decodes some positions of a source and leaves the bad ones out."""

    source: Source
    size: int

    def __call__(self, positions: Sequence[int]) -> DecodedChunk:
        pixels = np.empty((len(positions), self.size, 3, self.size), dtype=np.uint8)
        good, sizes, rejected = list[int](), list[tuple[int, int]](), list[Rejected]()
        for position in positions:
            try:
                pixels[len(good)], size = decode_at(self.source, position, self.size)
            except BadImage as error:
                rejected.append(Rejected(self.source.ids[position], str(error)))
                continue
            good.append(position)
            sizes.append(size)
        return DecodedChunk(
            np.array(good, dtype=np.int64),
            pixels[: len(good)],
            np.array(sizes, dtype=np.int64).reshape(-1, 2),
            tuple(rejected),
        )


def decode_at(source: Source, position: int, size: int) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Pixels [S, 3, S] and height and width of one image of a source.

    Raises:
        BadImage: it cannot be read or decoded.
    """
    try:
        content = source.read(position)
    except OSError as error:
        raise BadImage(f"{UNREADABLE}: {str(error.strerror or error).lower()}") from error
    return decode(content, size)


def decode_in_order(source: Source, positions: NDArray[np.int64], size: int, workers: int) -> Iterator[DecodedChunk]:
    """Decode the images at `positions`, chunk by chunk, in their order.

    Args:
        workers: processes; 0 decodes in this one.

    Raises:
        DataError: a process was lost.
    """
    chunk = max(1, min(CHUNK_IMAGES, CHUNK_BYTES // (3 * size * size)))
    parts = (positions[start : start + chunk].tolist() for start in range(0, len(positions), chunk))
    return map_in_order(ChunkDecoder(source, size), parts, min(workers, -(-len(positions) // chunk)))


def map_in_order(
    function: Callable[[Sequence[int]], Result], parts: Iterable[Sequence[int]], workers: int
) -> Iterator[Result]:
    """Apply `function` to each part, in `workers` processes that end with the iteration; 0 works here.

    Raises:
        DataError: a process was lost.
    """
    if workers == 0 or multiprocessing.current_process().daemon:  # a daemon may have no children
        yield from map(function, parts)
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")  # the number of workers is chosen
        loader = DataLoader(
            _Mapped(function),
            batch_sampler=_Parts(parts),
            num_workers=workers,
            collate_fn=_as_is,
            generator=torch.Generator(),  # else the loader would draw from the training's random state
        )
        results = iter(loader)
    try:
        yield from results
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DataError(
            f"data.workers: a decoding process was lost ({error}); set data.workers=1, or free memory"
        ) from error
    finally:
        del results  # ends the processes


def available_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Mapped(Dataset[Result], Generic[Result]):
    """A function of a part's positions, in the shape that a `DataLoader` calls."""

    def __init__(self, function: Callable[[Sequence[int]], Result]) -> None:
        self.function = function

    def __getitems__(self, positions: Sequence[int]) -> Result:
        return self.function(positions)


class _Parts:
    """Iterated once, in the main process; the loader wants to hold it as its sampler."""

    def __init__(self, parts: Iterable[Sequence[int]]) -> None:
        self.parts = parts

    def __iter__(self) -> Iterator[list[int]]:
        return (list(part) for part in self.parts)


def _as_is(result: Result) -> Result:
    return result
