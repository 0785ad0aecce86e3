"""A frozen teacher's answers in files: computed once, looked up by any number of runs.

A folder holds what one teacher says about the views of one data set. Its name is a hash of all that this follows from,
which `about.json` spells out. A file holds the answers about some images in one epoch of views; it appears under its
name whole or not at all, and a checksum tells whether it still is.

Letters: N images, V views of an image, D width of the teacher, R images of a file, B images of a batch.
"""

import fcntl
import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from stillhouse.data.sources import digest
from stillhouse.errors import RunError
from stillhouse.files import cache_directory, write_atomically

Dtype = Literal["fp16", "fp32"]

VERSION = 1
MAGIC = b"stillhouse-ans-1"
HEAD = struct.Struct("<16s16sQQQL")
HEAD_BYTES = 64
MOST_IMAGES, MOST_BYTES = 1024, 2**25
"""Of one file: what a killed process loses at most, and what is checked at once."""
TYPES = {"fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True, order=True)
class Part:
    """The images of one file: `start` up to but without `stop`, in one epoch of views."""

    epoch: int
    start: int
    stop: int


@dataclass(frozen=True)
class AnswerFiles:
    """The folder of what follows from `origin`.

    Args:
        origin: plain values; everything beside the shape that decides what the teacher says.
        num_images: N.
        num_views: V.
        dim: D.
        dtype: how a number is kept.
    """

    origin: Mapping[str, Any]
    num_images: int
    num_views: int
    dim: int
    dtype: Dtype

    @cached_property
    def about(self) -> str:
        """Everything that the answers and their files follow from, as JSON."""
        shape = {"images": self.num_images, "views": self.num_views, "dim": self.dim, "dtype": self.dtype}
        return json.dumps({"version": VERSION, **shape, **self.origin}, indent=1, sort_keys=True) + "\n"

    @cached_property
    def folder(self) -> Path:
        """Where the files are; another origin or shape has another name."""
        return cache_directory() / f"teacher-{digest([self.about])}"

    @property
    def images_per_file(self) -> int:
        """R; the last file of an epoch may hold fewer."""
        return max(1, min(MOST_IMAGES, MOST_BYTES // self._row_bytes))

    def parts(self, epochs: int) -> list[Part]:
        """The files of the first so many epochs, in order."""
        starts = range(0, self.num_images, self.images_per_file)
        ends = [min(start + self.images_per_file, self.num_images) for start in starts]
        return [Part(epoch, *ends_of) for epoch in range(epochs) for ends_of in zip(starts, ends, strict=True)]

    def path(self, part: Part) -> Path:
        """The file of a part."""
        return self.folder / f"epoch-{part.epoch:04d}-images-{part.start:09d}.bin"

    def num_bytes(self, part: Part) -> int:
        """Size of the file of a part."""
        return HEAD_BYTES + (part.stop - part.start) * self._row_bytes

    def is_there(self, part: Part) -> bool:
        """Whether there is a file of the right size; nothing is read."""
        try:
            return self.path(part).stat().st_size == self.num_bytes(part)
        except OSError:
            return False

    def is_whole(self, part: Part) -> bool:
        """Whether the file is there, belongs here and is as it was written; it is read through."""
        try:
            content = self.path(part).read_bytes()
        except OSError:
            return False
        return len(content) == self.num_bytes(part) and content[:HEAD_BYTES] == self._head(part, content[HEAD_BYTES:])

    def write(self, part: Part, answers: Tensor) -> None:
        """Keep the answers `[V, R, D]` about a part; on the CPU.

        Raises:
            RunError: the disk refuses; no half of a file is left.
        """
        content = answers.to(TYPES[self.dtype]).contiguous().numpy().tobytes()
        try:
            write_atomically(self.path(part), self._head(part, content) + content)
        except RunError as error:
            raise self._refusal(error) from error

    def claim(self) -> None:
        """Make the folder, and say in it what it holds.

        Raises:
            RunError: it cannot be written, or says that it holds something else.
        """
        file = self.folder / "about.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            known = file.read_text() if file.exists() else ""
            if not known:
                write_atomically(file, self.about)
        except (OSError, ValueError, RunError) as error:
            raise self._refusal(error) from error
        if known and known != self.about:
            raise RunError(
                f"teacher.cache: {file} says that its folder holds something else than its name does; delete the folder"
            )

    @contextmanager
    def lock(self) -> Iterator[Callable[[], bool]]:
        """Inside, the function given tries to keep other processes from filling the folder, and says whether it does.

        The lock ends with the context, or with the process.
        """
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            yield lambda: _locked(descriptor)
        finally:
            os.close(descriptor)

    def clear_away(self) -> None:
        """Delete what a killed process left half written; only for who holds the lock."""
        for rest in self.folder.glob(".*.tmp"):
            rest.unlink(missing_ok=True)

    def open(self, epochs: int, device: torch.device, wanted: torch.dtype) -> "Replay":
        """The answers of the first so many epochs, mapped and not read.

        Args:
            epochs: filled before.
            device: where the answers are wanted.
            wanted: as which numbers.

        Raises:
            RunError: a file is missing or too short.
        """
        found: list[list[Tensor]] = [[] for _ in range(epochs)]
        size, dtype = TYPES[self.dtype].itemsize, TYPES[self.dtype]
        for part in self.parts(epochs):
            path, count = str(self.path(part)), self.num_bytes(part) // size
            try:  # this way of mapping keeps no file open, of which a process may have few
                numbers = torch.from_file(path, shared=False, size=count, dtype=dtype)[HEAD_BYTES // size :]
                found[part.epoch].append(numbers.view(self.num_views, -1, self.dim))
            except (OSError, RuntimeError) as error:
                raise RunError(
                    f"teacher.cache: {self.path(part)} cannot be read ({error}); all processes of a run need the same "
                    "cache folder: set STILLHOUSE_CACHE to one that they share, then start again"
                ) from error
        return Replay(found, self.images_per_file, device, wanted)

    @property
    def _row_bytes(self) -> int:
        return self.num_views * self.dim * TYPES[self.dtype].itemsize

    def _head(self, part: Part, content: bytes) -> bytes:
        name = bytes.fromhex(digest([self.about]))
        head = HEAD.pack(MAGIC, name, part.epoch, part.start, len(content), zlib.crc32(content))
        return head.ljust(HEAD_BYTES, b"\0")

    def _refusal(self, error: Exception) -> RunError:
        told = error.__cause__ or error
        return RunError(
            f"teacher.cache: {self.folder} cannot be written ({told}); free space or set STILLHOUSE_CACHE to another "
            "folder, then start again: what is filled stays filled"
        )


@dataclass(frozen=True)
class Replay:
    """Looks answers up by epoch and image."""

    epochs: list[list[Tensor]]
    """Per epoch its files, each `[V, R, D]`."""
    images_per_file: int
    device: torch.device
    dtype: torch.dtype

    def __call__(self, epoch: int, index: Tensor) -> tuple[Tensor, ...]:
        """What the teacher said about the views of an epoch.

        Args:
            epoch: from 0.
            index: `[B]` int64, position of the images in their store, on the CPU.

        Returns:
            One `[B, D]` per view.
        """
        files = self.epochs[epoch]
        number = index // self.images_per_file
        answers = files[0].new_empty((files[0].shape[0], len(index), files[0].shape[2]))
        for wanted in number.unique().tolist():
            (places,) = torch.where(number == wanted)
            answers[:, places] = files[wanted][:, index[places] % self.images_per_file]
        return answers.to(device=self.device, dtype=self.dtype).unbind()


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
