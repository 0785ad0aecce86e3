"""Where images come from: one URI names a folder, a list, parquet files, tar shards, or images built in.

A source lists encoded images and reads them one by one; it decodes nothing. Listing labels and ids is put off until
they are asked for, so that a source whose pixels are cached already costs a few calls of `stat`.
"""

import difflib
import hashlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stillhouse.errors import DataError

BUILT_IN = ("digits", "scenes")
SCHEME = r"([A-Za-z][A-Za-z0-9+.-]+):"
KINDS = "a folder, list.txt, x.parquet, a folder of parquet files, shards-{000..099}.tar, digits or scenes"
SPLITS = ("train", "training", "test", "testing", "val", "valid", "validation", "dev")
COMPRESSED = (".gz", ".tgz", ".bz2", ".tbz", ".xz", ".txz", ".zst", ".tzst", ".lz4")


@dataclass(frozen=True)
class Rejected:
    """An image that is not used, and why."""

    id: str
    reason: str


class Source(ABC):
    """Encoded images by position; can be sent to other processes."""

    @property
    @abstractmethod
    def ids(self) -> Sequence[str]:
        """One name per image; bytes of file names that are not UTF-8 stay as surrogates."""

    @property
    @abstractmethod
    def labels(self) -> NDArray[np.int64]:
        """Class of each image, int64 [N]; -1 where it is unknown."""

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Name of each class; empty without labels."""

    @property
    @abstractmethod
    def rejected(self) -> tuple[Rejected, ...]:
        """What was refused while listing, before anything was read."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hexadecimal digest of names, sizes and times of the files; changes when they change."""

    @abstractmethod
    def read(self, position: int) -> bytes:
        """Encoded bytes of one image.

        Raises:
            OSError, BadImage: this image cannot be read; others may still be.
        """

    def __len__(self) -> int:
        return len(self.ids)


def open_source(uri: str) -> Source:
    """Find the images that `uri` names.

    Args:
        uri: a folder (class folders give labels), `list.txt` (one path per line, optional tab and label), one parquet
            file or a folder of them in the Hugging Face layout, `shards-{000..099}.tar` in the WebDataset layout, or
            one of the built-in `digits` and `scenes`. `uri#split` names a subfolder, the parquet files whose names
            start so, or `train` and `test` of what is built in.

    Raises:
        DataError: unknown kind, missing path, unknown split, or no images there.
    """
    base, split = _split(uri)
    if base == "digits":
        from stillhouse.data.digits import DigitsSource

        return DigitsSource(split)
    if base == "scenes":
        from stillhouse.data.scenes import ScenesSource

        return ScenesSource(split)
    if (scheme := re.match(SCHEME, base)) and not Path(base).exists():
        raise DataError(f"data: {uri!r} has the unknown scheme {scheme[1]!r}; give {KINDS}")
    path = Path(base)
    if path.name.lower().endswith(COMPRESSED):
        raise DataError(f"data: {base!r} is compressed, so images in it cannot be found by offset; decompress it first")
    if path.suffix.lower() == ".tar":
        from stillhouse.data.shards import open_shards

        return open_shards(_without_split(base, split))
    if not path.exists():
        raise DataError(f"data: {base!r} does not exist{_hint(path)}; check the path, or give {KINDS}")
    return _open_folder(path, split) if path.is_dir() else _open_file(path, split)


def absolute(uri: str) -> str:
    """The same images by a name that holds in every working directory."""
    base, split = _split(uri) if uri else ("", "")
    is_path = base and base not in BUILT_IN and (Path(base).exists() or not re.match(SCHEME, base))
    return str(Path(base).absolute()) + (f"#{split}" if split else "") if is_path else uri


def digest(parts: Iterable[object]) -> str:
    """Hexadecimal digest of the parts' text, in order."""
    hasher = hashlib.blake2b(digest_size=16)
    for part in parts:
        hasher.update(str(part).encode("utf-8", "surrogatepass") + b"\0")
    return hasher.hexdigest()


def stat_parts(path: Path) -> tuple[object, ...]:
    """Resolved path, size and time of change of one file, for a fingerprint."""
    status = path.stat()
    return (path.resolve(), status.st_size, status.st_mtime_ns)


def nearest(word: str, known: Iterable[str]) -> str:
    """`' (nearest: x)'`, or nothing when no known word resembles `word`."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (nearest: {close[0]!r})" if close else ""


def encode_labels(names: Sequence[str | None]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Turn label texts into class numbers.

    Whole numbers keep their value, so that two lists of one data set agree even where a class is absent from one;
    other names are numbered in sorted order. None and empty texts are unknown: -1.

    Returns:
        labels, int64 [N], and the class names.
    """
    known = sorted({name for name in names if name})
    if known and all(re.fullmatch(r"-?\d{1,6}", name) for name in known):
        numbers = np.array([int(name) if name else -1 for name in names], dtype=np.int64)
        numbers = np.maximum(numbers, -1)
        return numbers, tuple(str(value) for value in range(int(numbers.max(initial=-1)) + 1))
    position = {name: value for value, name in enumerate(known)}
    return np.array([position[name] if name else -1 for name in names], dtype=np.int64), tuple(known)


def _split(uri: str) -> tuple[str, str]:
    """Take `#split` off, unless the sign belongs to a path that exists."""
    if not uri or "\0" in uri:
        raise DataError(f"data: {uri!r} names nothing; give {KINDS}")
    if "#" not in uri or os.path.lexists(uri):
        return uri, ""
    base, _, split = uri.rpartition("#")
    return base, split


def _without_split(base: str, split: str) -> str:
    if split:
        raise DataError(f"data: {base!r} has no splits, yet {split!r} is asked for; leave out '#{split}'")
    return base


def _open_file(path: Path, split: str) -> Source:
    base = _without_split(str(path), split)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        from stillhouse.data.parquet import ParquetSource

        return ParquetSource([path])
    if suffix in {".txt", ".tsv", ".lst"}:
        from stillhouse.data.folder import open_list

        return open_list(path)
    raise DataError(f"data: {base!r} is a file of unknown kind {suffix!r}; give {KINDS}")


def _open_folder(path: Path, split: str) -> Source:
    from stillhouse.data.folder import SUFFIXES, FileSource, walk

    root = path / split if split and (path / split).is_dir() else path
    listing = walk(root)
    if listing.images and (root != path or not split):
        _refuse_mixed(path, listing.folders())
        return FileSource(root, listing.images, listing.rejected)
    if root == path and split:
        return _open_parquet(path, listing.parquet, split)
    if listing.parquet:
        return _open_parquet(root, listing.parquet, "")
    raise DataError(
        f"data: no images under {str(root)!r} (looked for {' '.join(SUFFIXES)} .parquet; {len(listing.rejected)} "
        f"unusable entries); check the path{_first(listing.rejected)}"
    )


def _open_parquet(root: Path, files: Sequence[Path], split: str) -> Source:
    from stillhouse.data.parquet import ParquetSource

    names = {file: file.relative_to(root).parts for file in files}
    chosen = [file for file in files if any(part.startswith(split) for part in names[file])]
    if not chosen:
        known = {entry.name for entry in root.iterdir() if entry.is_dir()} | {file.stem for file in files}
        shown = ", ".join(sorted(known)[:8]) or "none"
        raise DataError(f"data: {str(root)!r} has no split {split!r}{nearest(split, known)}; there are: {shown}")
    if not split:
        _refuse_mixed(root, {re.split(r"[-_.]", part)[0] for parts in names.values() for part in parts})
    return ParquetSource(chosen)


def _refuse_mixed(path: Path, names: set[str]) -> None:
    """Training images and test images in one pot are a mistake that no score would show."""
    mixed = sorted(names & set(SPLITS))
    if len(mixed) > 1:
        chosen = next((name for name in mixed if name.startswith("train")), mixed[0])
        raise DataError(f"data: {str(path)!r} holds several splits ({', '.join(mixed)}); say which: '{path}#{chosen}'")


def _first(rejected: Sequence[Rejected]) -> str:
    return f"; first: {rejected[0].id!r}: {rejected[0].reason}" if rejected else ""


def _hint(path: Path) -> str:
    """Name the entry beside the first missing part of `path` that resembles it."""
    missing = path
    while not missing.parent.exists() and missing.parent != missing:
        missing = missing.parent
    siblings = [entry.name for entry in missing.parent.iterdir()] if missing.parent.is_dir() else []
    return nearest(missing.name, [*siblings, "digits", "scenes"])
