"""An encoder as a transformer of scikit-learn: images in, one row of numbers each out.

Letters: N images, D width.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from stillhouse.data.decode import BadImage, decode, square
from stillhouse.embeddings.reader import Reader, open_reader
from stillhouse.errors import DataError, RunError, SettingsError

ImageLike = str | os.PathLike[str] | Image.Image | NDArray[np.uint8]
Images = Sequence[ImageLike] | NDArray[Any]


class Embedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Vectors of images by a trained encoder; there is nothing to fit, `fit` finds the encoder.

    X is a list or an array of paths, a list of Pillow images or of uint8 arrays `[H, W, 3]`, or one uint8 array
    `[N, H, W, 3]`. Images are prepared as for `stillhouse embed`, so the numbers are the same. Only the path of the
    encoder is pickled, and its weights must still be those that were fitted.

    Args:
        encoder: run directory, or a folder with an encoder.
        exit: block whose vectors are wanted, counted from 1; 0 is the last.
        batch_size: images per forward pass.
        device: where to compute; `auto` is a GPU where there is one.

    Attributes:
        n_features_out_: width D.
        encoder_sha256_: of the weights that were found.
    """

    def __init__(
        self,
        encoder: str | os.PathLike[str] = "",
        *,
        exit: int = 0,  # noqa: A002 (the command line's word)
        batch_size: int = 256,
        device: str = "auto",
    ) -> None:
        self.encoder = encoder
        self.exit = exit
        self.batch_size = batch_size
        self.device = device

    def fit(self, X: Images, y: ArrayLike | None = None) -> Self:  # noqa: N803 (scikit-learn's names)
        """Find the encoder; images are looked at by `transform` alone.

        Raises:
            SettingsError: no encoder is named, it has no such block, or X is not made of images.
            RunError: there is no encoder, or it is damaged.
        """
        if not self.encoder:
            raise SettingsError("Embedder.encoder: none named; give a run directory, as in Embedder(encoder='runs/a')")
        if self.batch_size < 1:
            raise SettingsError(f"Embedder.batch_size: {self.batch_size}; set it to 1 or more")
        _check(X)
        self._reader = open_reader(Path(self.encoder), self.exit, device=self.device)
        self.n_features_out_ = self._reader.dim
        self.encoder_sha256_ = self._reader.sha256
        return self

    def transform(self, X: Images) -> NDArray[np.float32]:  # noqa: N803
        """Vectors of images, float32 `[N, D]`.

        Raises:
            DataError: an image cannot be read; says which.
            TrainingError: the encoder gives a value that is not finite.
        """
        check_is_fitted(self)
        _check(X)
        reader = self._open()
        rows = [reader.read_pixels(batch).numpy() for batch in self._batches(X, reader)]
        return np.concatenate(rows) if rows else np.empty((0, reader.dim), dtype=np.float32)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False  # images are not rows of numbers
        tags.input_tags.one_d_array = tags.input_tags.string = True  # paths
        tags.no_validation = True
        tags.transformer_tags.preserves_dtype = []  # float32, whatever comes in
        return tags

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_reader"}

    @property
    def _n_features_out(self) -> int:
        return self.n_features_out_

    def _open(self) -> Reader:
        """The encoder that was fitted; read again where only its path came along."""
        if "_reader" not in self.__dict__:
            self._reader = open_reader(Path(self.encoder), self.exit, device=self.device)
        if self._reader.sha256 != self.encoder_sha256_:
            raise RunError(f"Embedder.encoder: the weights of {self.encoder} changed since it was fitted; fit it again")
        return self._reader

    def _batches(self, images: Images, reader: Reader) -> Iterator[torch.Tensor]:
        """Squashed pixels, uint8 `[B, S, 3, S]`."""
        for start in range(0, len(images), self.batch_size):
            part = enumerate(images[start : start + self.batch_size], start)
            yield torch.from_numpy(np.stack([_squashed(image, at, reader.store_size) for at, image in part]))


def _check(images: Iterable[Any]) -> None:
    """Raise `SettingsError` for what is no list of images."""
    if isinstance(images, str | os.PathLike | Image.Image | Mapping) or not hasattr(images, "__getitem__"):
        raise SettingsError(f"X: one {type(images).__name__}; give a list of images, [image] for a single one")
    if isinstance(images, np.ndarray) and images.dtype.kind not in "OUT" and (
        images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8
    ):  # fmt: skip
        raise SettingsError(
            f"X: an array {list(images.shape)} of {images.dtype}; give paths, Pillow images or uint8 [N, H, W, 3]"
        )


def _squashed(image: ImageLike, at: int, size: int) -> NDArray[np.uint8]:
    """Pixels `[S, 3, S]` of one image; `DataError` names it when that cannot be."""
    try:
        if isinstance(image, Image.Image):
            return square(image, size)[0]
        if isinstance(image, np.ndarray):
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
                raise BadImage(f"an array {list(image.shape)} of {image.dtype}, not uint8 [H, W, 3]")
            return square(Image.fromarray(np.ascontiguousarray(image)), size)[0]
        if not isinstance(image, str | os.PathLike):
            raise BadImage(f"{type(image).__name__} is neither a path nor a picture")
        with open(image, "rb") as file:
            return decode(file.read(), size)[0]
    except (OSError, ValueError) as error:
        reason = str(getattr(error, "strerror", None) or error)
        name = f" ({os.fspath(image)!r})" if isinstance(image, str | os.PathLike) else ""
        raise DataError(f"X: image {at}{name} cannot be read ({reason}); leave it out or mend it") from error
