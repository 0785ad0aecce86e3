"""One file of decoded images: a head, the pixels, and a tail that names them.

The head is written last and the file appears under its name complete or not at all. While it is written it has no
name where the system allows that, so that even a killed process leaves nothing behind.

Letters: N images, S side in pixels.
"""

import json
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from stillhouse.data.filling import DecodedChunk
from stillhouse.data.sources import Rejected
from stillhouse.files import sync_folder

MAGIC = b"stillhouse-img-1"
HEAD = struct.Struct("<16sQQQL")
HEAD_BYTES = 4096


@dataclass(frozen=True)
class Catalog:
    """What is known of the images beside their pixels."""

    ids: list[str]
    labels: NDArray[np.int64]
    """Class, [N]; -1 where unknown."""
    sizes: NDArray[np.int64]
    """Height and width of the original, [N, 2]."""
    classes: tuple[str, ...]
    rejected: tuple[Rejected, ...]


@dataclass(frozen=True)
class Labeling:
    """What a source says of its images, by position in the source."""

    ids: Sequence[str]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    rejected: tuple[Rejected, ...]

    def catalog(self, chunks: Sequence[DecodedChunk]) -> Catalog:
        """Describe the good images of `chunks`, in order."""
        positions = np.concatenate([np.empty(0, np.int64), *(chunk.positions for chunk in chunks)])
        sizes = np.concatenate([np.empty((0, 2), np.int64), *(chunk.sizes for chunk in chunks)])
        rejected = self.rejected + tuple(bad for chunk in chunks for bad in chunk.rejected)
        ids = [self.ids[position] for position in positions]
        return Catalog(ids, self.labels[positions], sizes, self.classes, rejected)


def write_cache(path: Path, chunks: Iterable[DecodedChunk], labeling: Labeling, size: int) -> int:
    """Decode into a cache file; nothing is written under `path` when no image is good.

    Returns:
        the number of good images.

    Raises:
        OSError: the folder cannot be written or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _unnamed(path) as (file, publish):
        file.write(bytes(HEAD_BYTES))
        seen = []
        for chunk in chunks:
            file.write(np.ascontiguousarray(chunk.pixels).data)
            seen.append(chunk.without_pixels())
        catalog = labeling.catalog(seen)
        tail = _pack(catalog)
        file.write(tail)
        file.seek(0)
        file.write(HEAD.pack(MAGIC, len(catalog.ids), size, len(tail), zlib.crc32(tail)))
        if catalog.ids:
            publish()
    return len(catalog.ids)


def read_cache(path: Path, size: int, memory_bytes: int) -> tuple[NDArray[np.uint8], Catalog] | None:
    """Pixels [N, S, 3, S] and catalog of a cache file; None when it is absent, damaged or of another version.

    Args:
        size: the side S that is expected.
        memory_bytes: pixels up to this many bytes are read; more are memory-mapped, read-only.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            magic, count, side, tail_bytes, checksum = HEAD.unpack(file.read(HEAD.size))
            shape = (count, size, 3, size)
            num_bytes = count * size * size * 3
            if (magic, side) != (MAGIC, size) or os.fstat(file.fileno()).st_size != HEAD_BYTES + num_bytes + tail_bytes:
                return None
            file.seek(HEAD_BYTES + num_bytes)
            tail = file.read(tail_bytes)
            if zlib.crc32(tail) != checksum:
                return None
            if num_bytes > memory_bytes:
                return np.memmap(file, np.uint8, "r", HEAD_BYTES, shape), _unpack(tail, count)
            pixels = torch.empty(shape, dtype=torch.uint8).numpy()  # filled steadily, where numpy asks for huge pages
            return (pixels, _unpack(tail, count)) if _read_into(file, pixels) else None
    except (OSError, struct.error, ValueError, KeyError, TypeError):
        return None


def _read_into(file: BinaryIO, pixels: NDArray[np.uint8]) -> bool:
    file.seek(HEAD_BYTES)
    flat, done = memoryview(pixels.data).cast("B"), 0
    while done < len(flat) and (count := file.readinto(flat[done:])):  # type: ignore[attr-defined]
        done += count
    return done == len(flat)


def _pack(catalog: Catalog) -> bytes:
    rejected = [(entry.id, entry.reason) for entry in catalog.rejected]
    texts = json.dumps({"ids": catalog.ids, "classes": catalog.classes, "rejected": rejected})
    return catalog.labels.tobytes() + catalog.sizes.tobytes() + texts.encode("ascii")


def _unpack(tail: bytes, count: int) -> Catalog:
    numbers = np.frombuffer(tail, dtype=np.int64, count=3 * count).copy()
    texts = json.loads(tail[24 * count :])
    return Catalog(
        texts["ids"],
        numbers[:count],
        numbers[count:].reshape(count, 2),
        tuple(texts["classes"]),
        tuple(Rejected(*entry) for entry in texts["rejected"]),
    )


@contextmanager
def _unnamed(path: Path) -> Iterator[tuple[BinaryIO, "_Publish"]]:
    """A file beside `path` that takes its name when published, and is gone when it is not."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        try:
            descriptor, named = os.open(path.parent, os.O_TMPFILE | os.O_RDWR, 0o644), False
        except (OSError, AttributeError):  # not on this system
            descriptor, named = os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o644), True
        with os.fdopen(descriptor, "w+b") as file:
            yield file, _Publish(file, temporary, path, folder, named)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(folder)


@dataclass(frozen=True)
class _Publish:
    """Sync the file and give it its name in one act."""

    file: BinaryIO
    temporary: Path
    path: Path
    folder: int
    named: bool

    def __call__(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())
        if not self.named:  # only with a folder given does `link` follow the link that /proc shows
            os.link(f"/proc/self/fd/{self.file.fileno()}", self.temporary, src_dir_fd=self.folder, follow_symlinks=True)
        os.replace(self.temporary, self.path)
        sync_folder(self.path.parent)
