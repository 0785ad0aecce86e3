"""The images most like one image, exactly. Letter: D width."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from stillhouse.data.sources import nearest as similar
from stillhouse.data.store import ImageStore
from stillhouse.embeddings.file import EmbeddingsFile
from stillhouse.embeddings.reader import Part, Reader, text
from stillhouse.errors import DataError, SettingsError
from stillhouse.evaluation.features import Share

DIGITS = 9


@dataclass(frozen=True)
class Neighbor:
    """One image that was found."""

    row: int
    """Place in the collection."""
    id: str
    label: str | None
    cosine: float


@dataclass(frozen=True)
class Query:
    """The image that is asked about."""

    name: str
    vector: Tensor
    """Float32 `[D]`."""
    row: int | None
    """Its place in the collection, where it is one of its images."""


def search(parts: Iterable[Part], query: Query, top: int) -> tuple[Neighbor, ...]:
    """The `top` images of highest cosine, best first; of equal ones the first of the collection comes first.

    In float64 and rounded to nine digits, so that equal vectors have equal cosines wherever they stand. The query's own
    row is left out. One part is held at a time.

    Args:
        parts: the collection.
        query: the image asked about.
        top: images wanted; fewer where there are no more.

    Raises:
        SettingsError: `top` is below one, or the widths differ.
    """
    if top < 1:
        raise SettingsError(f"--top {top}: nothing would be shown; ask for 1 or more")
    asked = F.normalize(query.vector.double(), dim=0)
    best: list[Neighbor] = []
    for part in parts:
        if part.vectors.shape[1] != len(asked):
            raise SettingsError(
                f"search: vectors of {part.vectors.shape[1]} numbers, but the query has {len(asked)}; "
                "use the encoder and exit that made the collection"
            )
        cosines = (F.normalize(part.vectors.double(), dim=1) @ asked).round(decimals=DIGITS)
        order = cosines.argsort(descending=True, stable=True)[: top + 1].tolist()
        best += [
            Neighbor(part.rows[at], part.ids[at], part.labels[at], cosines[at].item())
            for at in order
            if part.rows[at] != query.row
        ]
        best = sorted(best, key=lambda found: (-found.cosine, found.row))[:top]
    return tuple(best)


def find_query(image: str, collection: Iterable[Part]) -> Query | None:
    """The image of a collection that has this id; None when there is none."""
    for part in collection:
        if image in part.ids:
            at = part.ids.index(image)
            return Query(image, part.vectors[at], part.rows[at])
    return None


def search_images(
    reader: Reader, store: ImageStore, image: str, top: int, progress: Share = lambda share: None
) -> tuple[Query, tuple[Neighbor, ...]]:
    """Search images whose vectors are computed on the way.

    Args:
        reader: encoder and exit.
        store: the collection.
        image: id of one of its images, else path of an image file.
        top: images wanted.
        progress: told the share done.

    Raises:
        DataError: the image is neither, or cannot be read.
        SettingsError, TrainingError: as in `search` and `Reader.parts`.
    """
    ids = [text(id_) for id_ in store.ids]
    if image in ids:
        row = ids.index(image)
        pixels = store.gather(torch.tensor([row]))
        if store.stand_ins[row] != row:
            raise DataError(f"--image {image}: is in the collection, but cannot be read; give another")
        query = Query(image, reader.read_pixels(pixels)[0], row)
    else:
        query = query_from_file(reader, image, ids)
    return query, search(reader.parts(store, progress), query, top)


def search_file(
    file: EmbeddingsFile, reader: Reader | None, image: str, top: int
) -> tuple[Query, tuple[Neighbor, ...]]:
    """Search a file of embeddings; a reader is needed only for an image that is not in it.

    Raises:
        DataError: the file or the image cannot be read.
        SettingsError: an encoder is needed and none is given, or another one made the file.
    """
    if reader is not None:
        file.check_made_by(reader)
    query = find_query(image, file.parts())
    if query is None:
        ids = [id_ for part in file.parts() for id_ in part.ids]
        if reader is None and Path(image).is_file():
            raise SettingsError(
                f"--image {image}: is not in {file.path}, so its vector has to be computed; "
                "add --encoder with the run that made the file"
            )
        query = query_from_file(reader, image, ids)
    return query, search(file.parts(), query, top)


def query_from_file(reader: Reader | None, image: str, ids: list[str]) -> Query:
    """The vector of an image that is not in the collection."""
    if reader is None or not Path(image).exists():
        like = similar(image, ids) or f" (they are such as {ids[0]!r})"
        raise DataError(f"--image {image}: no such id in the collection{like}, and no such file; check it")
    return Query(image, reader.read_pixels(reader.read_file(Path(image)))[0], None)
