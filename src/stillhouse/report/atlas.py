"""Small images, flat maps of a few depths and nearest neighbours, as an evaluation left them in `atlas.npz`.

Letters: N images, L depths, Q queries, K neighbours of each.
"""

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from stillhouse.errors import RunError

MARKS = (b"RIFF", b"WEBP")  # how a WebP file begins, and what follows its length


@dataclass(frozen=True, kw_only=True)
class Atlas:
    """N images; `labels` are places in `classes`, -1 where unknown, hidden or not to be shown."""

    __pydantic_config__ = ConfigDict(arbitrary_types_allowed=True)

    ids: np.ndarray
    labels: np.ndarray
    classes: np.ndarray
    sheet: np.ndarray
    """Bytes of one WebP file with all images squashed to squares, `columns` side by side."""
    columns: np.ndarray
    shapes: np.ndarray
    """Height and width of the originals, `[N, 2]`."""
    blocks: np.ndarray
    points: np.ndarray
    """A map of every depth of `blocks` in [-1, 1], `[L, N, 2]`."""
    queries: np.ndarray
    neighbours: np.ndarray
    """Nearest first, `[Q, K]`, of the depth `near_block`; `cosines` say how near."""
    cosines: np.ndarray
    near_block: np.ndarray

    @property
    def is_labelled(self) -> bool:
        """Whether any image has a class that may be shown."""
        return bool(len(self.classes) and (self.labels >= 0).any())

    @property
    def rows(self) -> int:
        """How many rows of images the sheet has."""
        return -(-len(self.ids) // int(self.columns[0]))

    def class_of(self, image: int) -> str:
        """Name of an image's class; empty where it has none."""
        label = int(self.labels[image])
        return str(self.classes[label]) if self.is_labelled and label >= 0 else ""

    def name_of(self, image: int) -> str:
        """The last part of an image's name."""
        return str(self.ids[image]).rstrip("/").rpartition("/")[2]


def read_atlas(path: Path, *, labelled: bool) -> tuple[Atlas, ...]:
    """The atlas of a run, or none.

    Args:
        path: of the file.
        labelled: whether labels may be shown.

    Raises:
        RunError: the file is damaged, or of another kind.
    """
    if not path.exists():
        return ()
    try:
        with np.load(path, allow_pickle=False) as arrays:
            atlas = TypeAdapter(Atlas).validate_python(dict(arrays))
        _check(atlas)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, ValidationError) as error:
        told = str(error).splitlines()[0]
        raise RunError(f"{path}: cannot be read ({told}); evaluate again, or delete it to have no maps") from error
    return (atlas if labelled else replace(atlas, labels=np.full_like(atlas.labels, -1), classes=atlas.classes[:0]),)


def _check(atlas: Atlas) -> None:
    """Raise `ValueError` unless all arrays fit together and every place exists."""
    count, asked = len(atlas.ids), len(atlas.queries)
    shapes = {
        "labels": (count,),
        "shapes": (count, 2),
        "points": (len(atlas.blocks), count, 2),
        "neighbours": (asked, *atlas.neighbours.shape[1:2]),
        "cosines": atlas.neighbours.shape,
        "columns": (1,),
        "near_block": (1,),
    }
    for name, shape in shapes.items():
        if getattr(atlas, name).shape != shape:
            raise ValueError(f"{name} has shape {getattr(atlas, name).shape} instead of {shape}")
    start = atlas.sheet.astype(np.uint8).tobytes()[:12]
    if (start[:4], start[8:12]) != MARKS:
        raise ValueError("sheet is no WebP file")
    for name, most in (("queries", count), ("neighbours", count), ("labels", max(1, len(atlas.classes)))):
        values = getattr(atlas, name)
        if values.size and not -1 <= values.min() <= values.max() < most:
            raise ValueError(f"{name} names what is not there")
    if not count or not len(atlas.blocks) or atlas.columns[0] < 1 or atlas.shapes.min() < 1:
        raise ValueError("no images, depths or columns")
    if not np.isfinite(atlas.points).all():
        raise ValueError("points are not finite")
