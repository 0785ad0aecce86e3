"""Exporting the encoder of a run with images named by their URIs."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from stillhouse.data.augment import center_view
from stillhouse.data.sources import open_source
from stillhouse.data.store import DataConfig, fit_sizes, open_store
from stillhouse.errors import DataError
from stillhouse.export.agreement import Precision
from stillhouse.export.exporting import ExportConfig, Exported, Images, Kind, export
from stillhouse.export.onnx_file import packages
from stillhouse.export.original import open_original
from stillhouse.export.placing import check_free
from stillhouse.recipes.directory import Run

SHOWN = 512
"""Images read; one half verifies, the other calibrates."""


def export_encoder(
    folder: str | Path,
    to: Kind,
    out: str | Path,
    *,
    data: str = "",
    exits: Sequence[int] = (),
    precision: Precision = "float32",
    license: str = ExportConfig.license,  # noqa: A002 (the word on the card)
    data_license: str = ExportConfig.data_license,
    force: bool = False,
    progress: Callable[[str, float], None] = lambda part, share: None,
) -> Exported:
    """Write an encoder in a form that other programs run, and verify it against the live one.

    Args:
        folder: a run directory, or the folder of its encoder.
        to: `onnx`, `timm` or `torch`.
        out: folder to make, with the file, card.json and README.md.
        data: URI of images to verify on and, for `int8`, to calibrate by; the run's own when left out, and noise
            where those are gone.
        exits: depths, from 1; each is an output, and blocks above the deepest are left out. None means the last one.
        precision: `float32`, or `float16` or `int8` for `onnx`.
        license: of the weights, for the card.
        data_license: of the images that were learnt from, for the card.
        force: replace an earlier export.
        progress: told which part is under way and the share of all that is done.

    Raises:
        SettingsError, DataError, RunError: what a user can mend; nothing is written then.
    """
    config = ExportConfig(
        to=to, exits=tuple(exits), precision=precision, license=license, data_license=data_license, force=force
    )
    check_free(Path(out), force=force)
    if to == "onnx":
        packages()
    original = open_original(Path(folder))
    images = _images(Path(folder), data, original.encoder.image_size)
    return export(original, Path(out), config, images, progress)


def _images(folder: Path, data: str, image_size: int) -> Images:
    """Images by their URI; without one, those that the run was trained on."""
    if data:
        return _read(DataConfig(uri=data), image_size)
    run = Run(folder) if (folder / "recipe.toml").exists() else Run(folder.parent)
    if not run.recipe_file.exists():
        return Images.noise(image_size)
    try:
        return _read(run.read_recipe().data, image_size)
    except DataError:
        return Images.noise(image_size)


def _read(config: DataConfig, image_size: int) -> Images:
    limit = min(config.limit, SHOWN) if config.limit else SHOWN
    store = open_store(config.uri, replace(config, limit=limit), fit_sizes(open_source(config.uri), image_size)[0])
    shown = torch.cat([center_view(b, image_size) for b in store.batches(torch.arange(len(store)).split(64))])
    half = max(1, len(shown) // 2)
    return Images(shown[:half], shown[half:] if len(shown) > 1 else shown, config.uri)
