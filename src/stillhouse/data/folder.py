"""Images as files: a folder, nested or not, or a list of paths."""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stillhouse.data.sources import Rejected, Source, digest, encode_labels, stat_parts
from stillhouse.errors import DataError

SUFFIXES = (
    ".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".avif", ".jp2",
)  # fmt: skip


@dataclass(frozen=True)
class ImageFile:
    """One file: its name in the listing, what changes when it changes, and its label's text (empty: none)."""

    id: str
    size: int
    time: int
    label: str


@dataclass
class Listing:
    """What a walk through a folder met."""

    images: list[ImageFile] = field(default_factory=list)
    parquet: list[Path] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    def folders(self) -> set[str]:
        """Names of the first-level folders with images."""
        return {image.label for image in self.images if image.label}


class FileSource(Source):
    """Image files below one folder.

    Args:
        root: the folder that ids are relative to.
        images: the files, in order.
        rejected: what the listing refused.
        origin: parts of the fingerprint beside the files.
    """

    def __init__(
        self, root: Path, images: Sequence[ImageFile], rejected: Sequence[Rejected], origin: tuple[object, ...] = ()
    ) -> None:
        self.root, self._images, self._rejected = os.fspath(root.absolute()), images, tuple(rejected)
        files = (part for image in images for part in (image.id, image.size, image.time, image.label))
        self._fingerprint = digest(["files", root.resolve(), *origin, *files])

    @cached_property
    def ids(self) -> Sequence[str]:
        return [image.id for image in self._images]

    @cached_property
    def _encoded(self) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        return encode_labels([image.label for image in self._images])

    @property
    def labels(self) -> NDArray[np.int64]:
        return self._encoded[0]

    @property
    def classes(self) -> tuple[str, ...]:
        return self._encoded[1]

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        return self._rejected

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def read(self, position: int) -> bytes:
        with open(os.path.join(self.root, self._images[position].id), "rb", buffering=0) as file:  # noqa: PTH118
            return file.read()


def walk(root: Path) -> Listing:
    """List images and parquet files below `root`, sorted by path; hidden names are left out.

    Every folder is entered once, the real ones before those behind links, so a loop of links ends.
    """
    listing, visited, linked = Listing(), {_identity(root.stat())}, list[str]()
    pending = [""]
    while pending or linked:
        relative = pending.pop() if pending else linked.pop(0)
        if relative and (reason := _enter(root, relative, visited)):
            listing.rejected.append(Rejected(relative, reason))
            continue
        for entry in _entries(root, relative, listing):
            _sort_in(entry, os.path.join(relative, entry.name), listing, pending, linked)  # noqa: PTH118
    listing.images.sort(key=lambda image: image.id)
    listing.parquet = sorted(root / path for path in listing.parquet)
    listing.rejected.sort(key=lambda entry: entry.id)
    return listing


def open_list(path: Path) -> FileSource:
    """Read a text file with one image path per line, relative to it; optional tab and label; `#` starts a comment.

    Raises:
        DataError: unreadable, or no line names a file that exists.
    """
    images, rejected = list[ImageFile](), list[Rejected]()
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
        origin = stat_parts(path)
    except OSError as error:
        raise DataError(f"data: {str(path)!r} cannot be read ({error.strerror}); check its rights") from error
    for line in lines:
        name, _, label = os.fsdecode(line.rstrip(b"\r")).partition("\t")
        if name.strip() and not name.startswith("#"):
            _add_file(path.parent / name, name, label.strip(), images, rejected)
    if not images:
        raise DataError(
            f"data: {str(path)!r} names no image that exists ({len(rejected)} lines refused); "
            "give one path per line, relative to the list"
        )
    return FileSource(path.parent, images, rejected, origin)


def _sort_in(entry: os.DirEntry[str], name: str, listing: Listing, pending: list[str], linked: list[str]) -> None:
    suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
    if _is_folder(entry):
        if suffix in SUFFIXES:
            listing.rejected.append(Rejected(name, "a folder, not an image"))
        (linked if entry.is_symlink() else pending).append(name)
    elif suffix in SUFFIXES:
        first, separator, _ = name.partition(os.sep)
        _add_file(entry, name, first if separator else "", listing.images, listing.rejected)
    elif suffix == ".parquet":
        listing.parquet.append(Path(name))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; as a file it is refused with the reason
        return False


def _add_file(
    entry: os.DirEntry[str] | Path, name: str, label: str, images: list[ImageFile], rejected: list[Rejected]
) -> None:
    try:
        status = entry.stat()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        dangling = isinstance(error, FileNotFoundError) and Path(entry).is_symlink()
        reason = "dangling link" if dangling else str(getattr(error, "strerror", error)).lower()
        rejected.append(Rejected(name, reason))
        return
    if stat.S_ISREG(status.st_mode):
        images.append(ImageFile(name, status.st_size, status.st_mtime_ns, label))
    else:
        rejected.append(Rejected(name, "a folder, not an image" if stat.S_ISDIR(status.st_mode) else "not a file"))


def _enter(root: Path, relative: str, visited: set[tuple[int, int]]) -> str:
    """Note a folder as visited; the reason when it must not be entered, else nothing."""
    try:
        identity = _identity((root / relative).stat())
    except OSError as error:
        return str(error.strerror).lower()
    if identity in visited:
        return "link to a folder that is read already"
    visited.add(identity)
    return ""


def _entries(root: Path, relative: str, listing: Listing) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(root / relative) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        listing.rejected.append(Rejected(relative or ".", f"folder cannot be listed: {str(error.strerror).lower()}"))
        return []


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
