"""Images in uncompressed tar files, in the WebDataset layout: members that share a stem form one sample."""

import itertools
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stillhouse.data.decode import BadImage
from stillhouse.data.folder import SUFFIXES
from stillhouse.data.sources import Rejected, Source, digest, encode_labels, nearest, stat_parts
from stillhouse.errors import DataError

MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstandard",
    b"\x04\x22\x4d\x18": "lz4",
}
MAX_SHARDS = 1_000_000


@dataclass(frozen=True)
class Member:
    """One image in a shard: where its bytes lie, and the text of its `.cls` member (empty: none)."""

    id: str
    shard: int
    offset: int
    size: int
    label: str


@dataclass(frozen=True)
class _Index:
    members: tuple[Member, ...]
    rejected: tuple[Rejected, ...]


class ShardSource(Source):
    """Images of several shards, in the order of shards and members; indexed once, then read by offset."""

    def __init__(self, shards: Sequence[Path]) -> None:
        self.shards = tuple(shards)
        self._fingerprint = digest(["shards", *(part for shard in self.shards for part in stat_parts(shard))])

    @cached_property
    def _index(self) -> _Index:
        members, rejected = list[Member](), list[Rejected]()
        for number, shard in enumerate(self.shards):
            members += _index_shard(shard, number, rejected)
        if not members:
            shown = str(self.shards[0])
            raise DataError(f"data: no images in {shown!r} (looked for members named {' '.join(SUFFIXES)}); check it")
        return _Index(tuple(members), tuple(rejected))

    @cached_property
    def _encoded(self) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        return encode_labels([member.label for member in self._index.members])

    @cached_property
    def ids(self) -> Sequence[str]:
        return [member.id for member in self._index.members]

    @property
    def labels(self) -> NDArray[np.int64]:
        return self._encoded[0]

    @property
    def classes(self) -> tuple[str, ...]:
        return self._encoded[1]

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        return self._index.rejected

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def read(self, position: int) -> bytes:
        member = self._index.members[position]
        with open(self.shards[member.shard], "rb", buffering=0) as file:
            file.seek(member.offset)
            content = file.read(member.size)
        if len(content) < member.size:
            raise BadImage("the shard ends inside this image")
        return content


def open_shards(pattern: str) -> ShardSource:
    """Find the tar files that `pattern` names, with `{000..099}` and `{a,b}` expanded as a shell does.

    Raises:
        DataError: missing, compressed, or no tar file.
    """
    shards = [Path(name) for name in expand_braces(pattern)]
    missing = [shard for shard in shards if not shard.is_file()]
    if missing:
        folder = missing[0].parent
        hint = nearest(missing[0].name, [entry.name for entry in folder.iterdir()] if folder.is_dir() else [])
        raise DataError(
            f"data: {len(missing)} of the {len(shards)} shards of {pattern!r} do not exist, first {str(missing[0])!r}"
            f"{hint}; check the range"
        )
    for shard in shards:
        _refuse_compressed(shard)
    return ShardSource(shards)


def expand_braces(pattern: str) -> list[str]:
    """Names that `pattern` stands for: `{08..11}` counts with the width of its first end, `{a,b}` lists.

    Raises:
        DataError: more than a million names.
    """
    pieces = re.split(r"\{([^{}]*)\}", pattern)
    choices = [[piece] if number % 2 == 0 else _choices(piece) for number, piece in enumerate(pieces)]
    if np.prod([float(len(choice)) for choice in choices]) > MAX_SHARDS:
        raise DataError(f"data: {pattern!r} stands for more than {MAX_SHARDS} shards; check the range")
    return ["".join(parts) for parts in itertools.product(*choices)]


def _choices(inside: str) -> list[str]:
    if (ends := re.fullmatch(r"(\d+)\.\.(\d+)", inside)) is None:
        return inside.split(",") if "," in inside else [f"{{{inside}}}"]
    first, last = int(ends[1]), int(ends[2])
    if abs(last - first) >= MAX_SHARDS:
        raise DataError(f"data: {{{inside}}} stands for more than {MAX_SHARDS} shards; check the range")
    step = 1 if first <= last else -1
    width = len(ends[1]) if ends[1].startswith("0") or len(ends[1]) == len(ends[2]) else 0
    return [f"{value:0{width}d}" for value in range(first, last + step, step)]


def _refuse_compressed(shard: Path) -> None:
    try:
        with open(shard, "rb") as file:
            start = file.read(8)
    except OSError as error:
        raise DataError(f"data: {str(shard)!r} cannot be read ({error.strerror}); check its rights") from error
    for magic, name in MAGIC.items():
        if start.startswith(magic):
            raise DataError(
                f"data: {str(shard)!r} is compressed ({name}), so images in it cannot be found by offset; "
                "decompress it first"
            )


def _index_shard(shard: Path, number: int, rejected: list[Rejected]) -> list[Member]:
    """Images of one shard; a shard that breaks off keeps those before the break."""
    images, labels = list[tuple[str, tarfile.TarInfo]](), dict[str, str]()
    try:
        with tarfile.open(shard, "r:", errorlevel=1, errors="surrogateescape") as archive:
            for entry in _files(archive, shard.name, rejected):
                folder, slash, base = entry.name.rpartition("/")
                stem, _, suffix = base.partition(".")
                key = f"{folder}{slash}{stem}"
                if f".{suffix.rpartition('.')[2].lower()}" in SUFFIXES:
                    images.append((key, entry))
                elif suffix == "cls" and entry.size < 4096 and (member := archive.extractfile(entry)):
                    labels[key] = member.read().decode("utf-8", "replace").strip()
            _expect_end(archive)
    except (tarfile.TarError, OSError) as error:
        if not images:
            raise DataError(f"data: {str(shard)!r} is no readable tar file ({error}); fetch it again") from error
        rejected.append(Rejected(shard.name, f"the shard breaks off: {error}"))
    return [
        Member(f"{shard.name}/{entry.name}", number, entry.offset_data, entry.size, labels.get(key, ""))
        for key, entry in images
    ]


def _expect_end(archive: tarfile.TarFile) -> None:
    """A shard ends with zeros or with its file; `tarfile` takes anything else for the end, too."""
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    if any(archive.fileobj.read(tarfile.BLOCKSIZE)):
        raise tarfile.ReadError("a member has no valid head")


def _files(archive: tarfile.TarFile, shard: str, rejected: list[Rejected]) -> Iterator[tarfile.TarInfo]:
    """Plain members only: what lies elsewhere or with holes has no bytes to seek to."""
    for entry in archive:
        if entry.isreg() and not entry.issparse():
            yield entry
        elif not entry.isdir():
            rejected.append(Rejected(f"{shard}/{entry.name}", "a link or special member, not a file"))
