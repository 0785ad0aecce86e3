"""A trained encoder made ready to read images, always in the same way, whichever collection they come from.

Letters: B images, D width of the exit.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stillhouse import __version__
from stillhouse.data.augment import center_view
from stillhouse.data.decode import BadImage, decode
from stillhouse.data.store import DataConfig, ImageStore, open_store
from stillhouse.errors import DataError, RunError, SettingsError
from stillhouse.evaluation.features import Share, extract, forward, refuse_broken, stream
from stillhouse.networks.encoder import Encoder
from stillhouse.networks.saved import CARD
from stillhouse.recipes.directory import Run
from stillhouse.recipes.preparing import choose_device

LARGEST_KEPT_WHOLE = 96
SHOWN_SHARE = 7 / 8
"""Of a large image's side, as `center_view` shows it."""


@dataclass(frozen=True)
class Part:
    """Some images of a collection, in its order."""

    rows: list[int]
    """Place of each in the collection."""
    ids: list[str]
    vectors: Tensor
    """Float32 `[B, D]` on the CPU, not normalized."""
    labels: list[str | None]
    """Name of each image's class; None where unknown."""


@dataclass(frozen=True)
class Reader:
    """An encoder, the block whose vectors are wanted, and how images are prepared for it."""

    encoder: Encoder
    sha256: str
    """Of the file of weights."""
    exit: int
    """Block, counted from 1."""
    store_size: int
    """Side in pixels that images are squashed to before the central view is cut."""

    @cached_property
    def dim(self) -> int:
        """Width D of the vectors."""
        return self.encoder.block_dims[self.exit - 1]

    def about(self) -> dict[str, Any]:
        """What somebody must know to make vectors that may be compared with these."""
        return {
            "encoder_sha256": self.sha256,
            "dim": self.dim,
            "exit": self.exit,
            "preprocessing": {
                "store_size": self.store_size,
                "image_size": self.encoder.image_size,
                "view": "center",
                "normalization": "inside the encoder",
            },
            "stillhouse": __version__,
        }

    def open(self, uri: str, config: DataConfig = DataConfig()) -> ImageStore:  # noqa: B008 (frozen)
        """The images behind a URI, at the size that this reader wants; `DataError` when there are none."""
        return open_store(uri, config, self.store_size)

    def parts(self, store: ImageStore, progress: Share = lambda share: None) -> Iterator[Part]:
        """Vectors of all readable images of a store, batch by batch.

        Raises:
            TrainingError: the encoder gives a value that is not finite.
        """
        for found in stream(self.encoder, store, progress=progress):
            yield Part(
                found.kept.tolist(),
                [text(store.ids[row]) for row in found.kept.tolist()],
                found.blocks[self.exit - 1].cpu(),
                label_names(store, found.kept),
            )

    def vectors(self, store: ImageStore, progress: Share = lambda share: None) -> tuple[Tensor, Tensor]:
        """Vectors `[N, D]` on the encoder's device, and the rows of the store that they are of, int64 `[N]`."""
        found = extract(self.encoder, store, progress=progress)
        return found.blocks[self.exit - 1], found.kept

    def read_pixels(self, pixels: Tensor) -> Tensor:
        """Vectors `[B, D]` on the CPU of images that are squashed already, uint8 `[B, S, 3, S]`."""
        blocks = next(forward(self.encoder, [center_view(pixels, self.encoder.image_size)]))
        refuse_broken(blocks)
        return blocks[self.exit - 1].float().cpu()

    def read_file(self, path: Path) -> Tensor:
        """Pixels of one image file, uint8 `[1, S, 3, S]`.

        Raises:
            DataError: it cannot be read or decoded.
        """
        try:
            pixels = decode(path.read_bytes(), self.store_size)[0]
        except (OSError, BadImage) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"image {str(path)!r}: cannot be read ({str(reason).lower()}); give another") from error
        return torch.from_numpy(pixels.copy()).unsqueeze(0)


def open_reader(folder: str | Path, exit_: int = 0, *, device: str = "auto") -> Reader:
    """Make the encoder of a run, or of a folder with an encoder, ready to read images.

    A run's images are kept at the side that its recipe says, as `stillhouse evaluate` keeps them; without a recipe it
    follows from the encoder. It never follows from the collection, so that one image has one vector.

    Args:
        folder: run directory, or its `encoder` or `peer` folder.
        exit_: block whose vectors are wanted, counted from 1; 0 is the last.
        device: where to compute; `auto` is a GPU where there is one.

    Raises:
        RunError: there is no encoder, or it is damaged.
        SettingsError: there is no such block or device.
    """
    run = Run(Path(folder))
    if not run.folder.is_dir():
        found = "is a file" if run.folder.exists() else "does not exist"
        raise RunError(f"{folder}: {found}; name a run directory, or a folder with an encoder")
    encoder = run.load()
    depth = len(encoder.block_dims)
    if not 0 <= exit_ <= depth:
        raise SettingsError(f"exit: {exit_}, but the encoder of {folder} has {depth} blocks; choose 1 to {depth}")
    inner = run.encoder_folder if run.encoder_folder.exists() else run.folder
    sha256 = str(json.loads((inner / CARD).read_text())["sha256"])
    kept = run.read_recipe().data.store_size if run.recipe_file.exists() else 0
    return Reader(encoder.to(choose_device(device)), sha256, exit_ or depth, kept or _store_size(encoder.image_size))


def label_names(store: ImageStore, rows: Tensor) -> list[str | None]:
    """Names of the classes of these rows; the number where classes have no names, None where it is unknown."""
    names = store.classes
    labels = store.labels.cpu()[rows].tolist()
    return [None if label < 0 else names[label] if names else str(label) for label in labels]


def text(id_: str) -> str:
    """An id as text that can be written anywhere; bytes of a file name that are no UTF-8 are shown as `\\udc..`."""
    return id_.encode(errors="backslashreplace").decode()


def _store_size(image_size: int) -> int:
    """Side at which to keep images for an encoder of which nothing else is known; 256 for 224."""
    return image_size if image_size <= LARGEST_KEPT_WHOLE else round(image_size / SHOWN_SHARE)
