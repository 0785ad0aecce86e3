"""From a URI to decoded images: settings, where the pixels are kept, and what follows from the images themselves."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Interval
from numpy.typing import NDArray
from pydantic import BeforeValidator
from torch import Tensor

from stillhouse.data.cachefile import Labeling, read_cache, write_cache
from stillhouse.data.decode import BadImage
from stillhouse.data.filling import UNREADABLE, DecodedChunk, available_cores, decode_at, decode_in_order
from stillhouse.data.pixels import FreshStore, HeldStore, ImageStore
from stillhouse.data.probing import decode_seconds, fit_sizes, probe_size
from stillhouse.data.sources import Rejected, Source, digest, open_source
from stillhouse.errors import DataError
from stillhouse.files import cache_directory, free_bytes, write_atomically

__all__ = [
    "DataConfig",
    "ImageStore",
    "Rejected",
    "align_labels",
    "fit_sizes",
    "open_store",
    "probe_size",
    "write_quarantine",
]

VERSION = 1
GIB = 2**30
DISK_MARGIN = 64 * 2**20
WORKERS_PAY_SECONDS = 6.0


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images are used and where their pixels are kept.

    Args:
        uri: where the images are, as in `open_source`; recipes keep it here, `open_store` is told it.
        limit: images used, the first so many after a seeded shuffle; 0 uses all. Only these are decoded.
        labels: whether labels are shown to evaluations, and to the few methods that learn from them.
        labelled: how many labels training knows, a share (`1%`) or a number (`250`), drawn alike from every class;
            empty is all. `evaluate` knows every label regardless.
        classes: names of the classes that are told apart, in the order of their scores; empty takes those that the
            images show, and they are written out. Images may lack some of them.
        seed: of the shuffles behind `limit` and `labelled`.
        store_size: side in pixels that images are kept at; 0 follows the images.
        cache: `disk` decodes once into a file of the cache folder, `memory` once per run, `none` anew for each batch;
            `auto` takes the file where the disk has room, else memory up to `cache_gib`, else none.
        cache_gib: cached pixels up to this many GiB are held in memory; more are mapped from the file.
        workers: processes that decode; 0 takes one per core where there is much to decode.
    """

    uri: str = ""
    limit: Annotated[int, Ge(0)] = 0
    labels: bool = True
    labelled: Annotated[str, BeforeValidator(str)] = ""
    classes: tuple[str, ...] = ()
    seed: Annotated[int, Interval(ge=0, lt=2**63)] = 0
    store_size: Annotated[int, Interval(ge=0, le=8192)] = 0
    cache: Literal["auto", "memory", "disk", "none"] = "auto"
    cache_gib: Annotated[float, Interval(gt=0, le=1e6)] = 2.0
    workers: Annotated[int, Ge(0)] = 0


def open_store(uri: str, config: DataConfig, store_size: int) -> ImageStore:
    """Make the images behind `uri` available by index, decoded.

    Args:
        uri: as in `open_source`.
        store_size: side S in pixels that every image is squashed to; 0 takes `config.store_size`, and what follows from
            the images where that is 0 too.

    Raises:
        DataError: nothing there, or no image that can be read, or no room for the pixels where `config` wants them.
    """
    source = open_source(uri)
    opening = _Opening(uri, source, config, store_size or config.store_size or probe_size(source)[0])
    if config.cache in {"auto", "disk"} and (held := opening.from_disk()):
        return held
    plan = config.cache if config.cache != "auto" else opening.choose()
    if plan == "disk":
        try:
            return opening.fill_disk()
        except OSError as error:
            plan = opening.fall_back(str(error))
    return opening.fill_memory() if plan == "memory" else opening.fresh()


@dataclass(frozen=True)
class _Opening:
    """One source on its way to a store."""

    uri: str
    source: Source
    config: DataConfig
    size: int

    @property
    def path(self) -> Path:
        """The cache file; its name changes with everything that its content follows from."""
        config = self.config
        chosen = (config.limit, config.seed) if config.limit else ()
        return cache_directory() / f"images-{digest([self.source.fingerprint, self.size, VERSION, *chosen])}.bin"

    @property
    def memory_bytes(self) -> int:
        return int(self.config.cache_gib * GIB)

    def num_bytes(self) -> int:
        """Bytes of the decoded pixels."""
        return len(self.positions()) * self.size * self.size * 3

    def positions(self) -> NDArray[np.int64]:
        """Positions in the source that are used, ascending."""
        order = np.arange(len(self.source), dtype=np.int64)
        if 0 < self.config.limit < len(order):
            order = np.sort(np.random.default_rng(self.config.seed).permutation(order)[: self.config.limit])
        return order

    def workers(self) -> int:
        """Processes for decoding once."""
        if self.config.workers:
            return self.config.workers
        return available_cores() if decode_seconds(self.source, len(self.positions())) > WORKERS_PAY_SECONDS else 0

    def chunks(self) -> Iterable[DecodedChunk]:
        return decode_in_order(self.source, self.positions(), self.size, self.workers())

    def labeling(self) -> Labeling:
        source = self.source
        return Labeling(source.ids, source.labels, source.classes, source.rejected)

    def choose(self) -> str:
        """Where the pixels of `cache = "auto"` go."""
        free = free_bytes(self.path.parent)
        if free >= 1.05 * self.num_bytes() + DISK_MARGIN:
            return "disk"
        return self.fall_back(f"only {free / GIB:.1f} GiB are free for {self.num_bytes() / GIB:.1f} GiB of pixels")

    def fall_back(self, reason: str) -> str:
        """Where the pixels go when the cache folder does not take them: memory if they fit, else nowhere.

        Raises:
            DataError: `cache = "disk"` was asked for and the pixels do not fit in memory.
        """
        fits = self.num_bytes() <= self.memory_bytes
        if not fits and self.config.cache == "disk":
            raise DataError(
                f"data.cache: {str(self.path.parent)!r} cannot hold {self.num_bytes() / GIB:.1f} GiB of decoded images "
                f"({reason}); free space, set STILLHOUSE_CACHE to another folder, or set data.cache=none"
            )
        instead = "they are held in memory for this run" if fits else "each batch is decoded anew"
        warnings.warn(
            f"data.cache: decoded images are not kept in {str(self.path.parent)!r} ({reason}); {instead}; "
            "free space or set STILLHOUSE_CACHE to another folder",
            stacklevel=4,
        )
        return "memory" if fits else "none"

    def from_disk(self) -> HeldStore | None:
        """The store behind a cache file that is there and whole."""
        held = read_cache(self.path, self.size, self.memory_bytes)
        return HeldStore(*held, self.config.labels) if held and not self.recovered(held[1].rejected) else None

    def recovered(self, rejected: Iterable[Rejected]) -> bool:
        """Whether an image that the disk refused when the cache was filled can be read now."""
        refused = {entry.id for entry in rejected if entry.reason.startswith(UNREADABLE)}
        positions = [at for at in self.positions().tolist() if self.source.ids[at] in refused] if refused else []
        return any(not self.reason(position).startswith(UNREADABLE) for position in positions)

    def fill_disk(self) -> ImageStore:
        if not write_cache(self.path, self.chunks(), self.labeling(), self.size):
            self.refuse_empty()
        if held := self.from_disk():
            return held
        raise OSError("the file that was just written cannot be read")

    def fill_memory(self) -> HeldStore:
        try:
            pixels = np.empty((len(self.positions()), self.size, 3, self.size), dtype=np.uint8)
        except MemoryError as error:
            raise DataError(
                f"data.cache: {self.num_bytes() / GIB:.1f} GiB of decoded images do not fit in memory; "
                "set data.cache=auto, or lower data.limit"
            ) from error
        seen, count = list[DecodedChunk](), 0
        for chunk in self.chunks():
            pixels[count : count + len(chunk.pixels)] = chunk.pixels
            count += len(chunk.pixels)
            seen.append(chunk.without_pixels())
        if not count:
            self.refuse_empty()
        return HeldStore(pixels[:count], self.labeling().catalog(seen), self.config.labels)

    def fresh(self) -> FreshStore:
        """A store that keeps nothing, once one image is known to be good."""
        if not any(self.reason(position) == "" for position in self.positions().tolist()):
            self.refuse_empty()
        workers = self.config.workers or available_cores()
        return FreshStore(self.source, self.positions(), self.size, self.config.labels, workers)

    def refuse_empty(self) -> None:
        """Say that no image is good, with the reason of the first one."""
        positions = self.positions()
        first = int(positions[0])
        raise DataError(
            f"data: none of the {len(positions)} images of {self.uri!r} can be read; "
            f"first: {self.source.ids[first]!r}: {self.reason(first)}; check the files"
        )

    def reason(self, position: int) -> str:
        """Why one image cannot be used; nothing when it can."""
        try:
            decode_at(self.source, position, self.size)
        except BadImage as error:
            return str(error)
        return ""


def align_labels(labels: Tensor, classes: tuple[str, ...], target: tuple[str, ...]) -> Tensor:
    """Number labels as another source does, matching classes by name.

    Args:
        labels: int64 [N], numbers of `classes`; -1 where unknown.
        target: class names of the other source.

    Returns:
        int64 [N], numbers of `target`; -1 where unknown, or where `target` lacks the class.
    """
    number = {name: value for value, name in enumerate(target)}
    table = torch.tensor([*(number.get(name, -1) for name in classes), -1], dtype=torch.int64)
    return table[labels]  # -1 is the last row


def write_quarantine(path: Path, rejected: Iterable[Rejected]) -> None:
    """List unused images, one line each: id, tab, reason; sorted, with odd characters escaped as in Python.

    Raises:
        RunError: the disk refuses.
    """
    lines = sorted({f"{_printable(entry.id)}\t{_printable(entry.reason)}\n" for entry in rejected})
    write_atomically(path, "".join(lines))


def _printable(text: str) -> str:
    return "".join(
        char if char.isprintable() and char != "\\" else char.encode("unicode_escape").decode() for char in text
    )
