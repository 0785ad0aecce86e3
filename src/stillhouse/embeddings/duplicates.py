"""Images that show the same picture twice: found by their vectors, confirmed by their pixels.

A cosine alone calls too much alike where an encoder is weak, and how high it has to be differs from one encoder to the
next. So the encoder is asked what it makes of small changes: a pair is looked at when it is as alike as nearly all
images are to a copy of themselves that is shifted and brightened. The pixels of what is left decide.

Letters: N images, E pairs.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.nn import functional as F

from stillhouse.data.sources import Source
from stillhouse.data.store import ImageStore
from stillhouse.embeddings.likeness import Likeness
from stillhouse.embeddings.reader import Reader, label_names, text
from stillhouse.errors import DataError, SettingsError
from stillhouse.evaluation.features import Share
from stillhouse.evaluation.knn import nearest
from stillhouse.evaluation.overlap import fingerprints

CORRELATION = 0.95
"""Of the pixels, from which on two pictures are the same; on CIFAR-10 few pairs above are different pictures."""
ASKED, SHARE = 256, 0.02
"""Images that are changed to calibrate, and the share of them that may fall below the threshold."""
SHIFT, BRIGHTER = 1 / 16, 1.2
"""The change: along both sides, as a share of the side; and how much brighter."""
TILE = 2048

Kind = Literal["first", "same file", "same pixels", "near"]


@dataclass(frozen=True)
class Copy:
    """One image of a group."""

    row: int
    id: str
    label: str | None
    kind: Kind
    """`same file` and `same pixels` as one that stands before it in the group, or `near` to some other."""
    like: str
    """Id of the other image of its group with the highest cosine."""
    cosine: float
    correlation: float
    """Of the pixels of these two."""


@dataclass(frozen=True)
class Duplicates:
    """Groups of images of one picture, largest first, then in the order of the collection."""

    groups: tuple[tuple[Copy, ...], ...]
    images: int
    threshold: float
    calibrated: bool
    candidates: int
    """Pairs whose pixels were compared."""

    @property
    def superfluous(self) -> int:
        """Images that could go without losing a picture."""
        return sum(len(group) - 1 for group in self.groups)

    def count(self, kind: Kind) -> int:
        """Images of a kind."""
        return sum(copy.kind == kind for group in self.groups for copy in group)


def find_duplicates(
    reader: Reader,
    store: ImageStore,
    source: Source,
    *,
    threshold: float | None = None,
    correlation: float = CORRELATION,
    seed: int = 0,
    progress: Share = lambda share: None,
) -> Duplicates:
    """Group the images of a store that show the same picture.

    Images with equal pixels are grouped whatever the encoder says. Groups are connected components: if A is near B and
    B near C, all three are one group.

    Args:
        reader: encoder and exit.
        store: the images.
        source: the files behind them, to tell the same file from the same pixels.
        threshold: cosine from which on a pair is looked at, in (0, 1]; None asks the encoder.
        correlation: of the pixels from which on a pair is confirmed, in (0, 1].
        seed: of the images that are changed to calibrate.
        progress: told the share done of reading the images.

    Raises:
        SettingsError: a threshold is out of range.
        DataError: fewer than two images.
        TrainingError: the encoder gives a value that is not finite.
    """
    for name, value in (("--threshold", threshold), ("correlation", correlation)):
        if value is not None and not 0 < value <= 1:
            raise SettingsError(f"{name} {value}: a cosine above 0 and up to 1 is wanted; 0.97, for instance")
    if len(store) < 2:
        raise DataError(f"data: {len(store)} image, and duplicates need two; name more")
    vectors, kept = reader.vectors(store, progress)
    least = calibrate(reader, store, kept, seed) if threshold is None else threshold
    prints = list(fingerprints(store, kept))
    number = {print_: place for place, print_ in reversed(list(enumerate(prints)))}
    firsts = np.array([number[print_] for print_ in prints], dtype=np.int64)
    distinct = torch.from_numpy(np.unique(firsts))
    likeness = Likeness(store)
    group, candidates = firsts, 0
    for one, other in close_pairs(vectors[distinct.to(vectors.device)], least):
        one, other = distinct[one], distinct[other]
        open_ = torch.from_numpy(group[one.numpy()] != group[other.numpy()])
        one, other = one[open_], other[open_]
        confirmed = likeness(kept[one], kept[other]) >= correlation
        candidates += len(one)
        group = join(group, one[confirmed].numpy(), other[confirmed].numpy())
    described = _Described(store, source, vectors, kept, likeness, prints)
    groups = sorted(map(described.group, _members(group)), key=lambda copies: (-len(copies), copies[0].row))
    return Duplicates(tuple(groups), len(kept), least, threshold is None, candidates)


def calibrate(reader: Reader, store: ImageStore, rows: Tensor, seed: int) -> float:
    """The cosine that 98 of 100 images keep to a copy of themselves, shifted by a sixteenth and a fifth brighter."""
    generator = torch.Generator().manual_seed(seed)
    pixels = store.gather(rows[torch.randperm(len(rows), generator=generator)[:ASKED]]).cpu()
    shift = max(1, round(SHIFT * store.size))
    places = torch.arange(store.size).add(shift).clamp(max=store.size - 1)
    changed = (pixels[:, places][..., places].float() * BRIGHTER).clamp(max=255).to(torch.uint8)
    cosines = F.cosine_similarity(reader.read_pixels(pixels), reader.read_pixels(changed))
    return max(torch.quantile(cosines, SHARE).item(), 0.0)


def close_pairs(vectors: Tensor, threshold: float) -> Iterator[tuple[Tensor, Tensor]]:
    """All pairs `i < j` of rows `[N, D]` with a cosine of at least `threshold`, tile by tile, as int64 `[E]` each.

    A tile is 2048 x 2048 pairs, so memory grows with N alone.
    """
    unit = F.normalize(vectors, dim=1)
    for top in range(0, len(unit), TILE):
        for left in range(top, len(unit), TILE):
            cosines = unit[top : top + TILE] @ unit[left : left + TILE].mT
            above = (cosines >= threshold).triu(1) if top == left else cosines >= threshold
            one, other = above.nonzero(as_tuple=True)
            yield one.cpu() + top, other.cpu() + left


def join(group: NDArray[np.int64], one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """Groups `[N]`, each named by its first member, after `one[e]` and `other[e]` were found to belong together."""
    if not len(one):
        return group
    rows = np.arange(len(group))
    ends = np.concatenate([rows, one]), np.concatenate([group, other])
    _, found = connected_components(coo_array((np.ones(len(ends[0])), ends), shape=(len(rows), len(rows))), False)
    first = np.full(len(rows), len(rows))
    np.minimum.at(first, found, rows)
    return np.asarray(first[found], dtype=np.int64)


def _members(group: NDArray[np.int64]) -> list[Tensor]:
    """Places of the members of every group of two or more, rising."""
    order = torch.from_numpy(np.argsort(group, kind="stable"))
    counts = np.unique(group, return_counts=True)[1]
    return [part for part in order.split(counts.tolist()) if len(part) > 1]


@dataclass(frozen=True)
class _Described:
    """What is known of the images, and so what can be said about a group."""

    store: ImageStore
    source: Source
    vectors: Tensor
    kept: Tensor
    likeness: Likeness
    prints: list[bytes]

    def group(self, places: Tensor) -> tuple[Copy, ...]:
        """Everything about the images at these places, int64 `[M]`."""
        vectors, rows = self.vectors[places.to(self.vectors.device)], self.kept[places]
        cosines, others = (found.squeeze(1).cpu() for found in nearest(vectors, vectors, 1, torch.arange(len(places))))
        correlations = self.likeness(torch.minimum(rows, rows[others]), torch.maximum(rows, rows[others]))
        ids = [text(self.store.ids[row]) for row in rows.tolist()]
        kinds = self._kinds(places)
        labels = label_names(self.store, rows)
        return tuple(
            Copy(*known, ids[other], min(cosine, 1.0), correlation)
            for known, other, cosine, correlation in zip(
                zip(rows.tolist(), ids, labels, kinds, strict=True),
                others.tolist(), cosines.tolist(), correlations.tolist(), strict=True,
            )
        )  # fmt: skip

    def _kinds(self, places: Tensor) -> list[Kind]:
        prints = [self.prints[place] for place in places.tolist()]
        times = Counter(prints)
        pixels, files = set[bytes](), set[bytes]()
        kinds: list[Kind] = []
        for place, print_ in zip(places.tolist(), prints, strict=True):
            file = self._file(place) if times[print_] > 1 else print_
            same: Kind = "same file" if file in files else "same pixels"
            kinds.append(same if print_ in pixels else "near" if kinds else "first")
            pixels.add(print_)
            files.add(file)
        return kinds

    def _file(self, place: int) -> bytes:
        """A hash of the image's file."""
        content = self.source.read(self._position[self.store.ids[int(self.kept[place])]])
        return hashlib.blake2b(content, digest_size=16).digest()

    @cached_property
    def _position(self) -> dict[str, int]:
        """Where each image is in the source."""
        return {id_: position for position, id_ in enumerate(self.source.ids)}
