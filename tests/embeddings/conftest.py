"""A small encoder on disk and a folder of pictures, made once."""

from pathlib import Path

import numpy as np
import pytest
import sklearn  # noqa: F401 (its first import sets environment variables)
import torch
from numpy.typing import NDArray
from PIL import Image

from stillhouse.embeddings.reader import Reader, open_reader
from stillhouse.networks.build import EncoderConfig, build_encoder
from stillhouse.networks.saved import save_encoder

SIDE = 16


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep decoded images out of the user's cache."""
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def picture(seed: int) -> NDArray[np.uint8]:
    """Soft blobs of colour `[16, 16, 3]`, unlike those of any other seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def write_pictures(folder: Path) -> None:
    """Twelve pictures in each of two classes, `a/00.png` to `b/11.png`."""
    for place, name in enumerate("ab"):
        (folder / name).mkdir(parents=True)
        for number in range(12):
            Image.fromarray(picture(100 * place + number)).save(folder / name / f"{number:02d}.png")


def write_encoder(folder: Path, seed: int = 0, spoil: bool = False) -> None:
    """An untrained encoder for 16 px; spoilt, it has a weight that is no number."""
    config = EncoderConfig(name="vit_nano").fit(SIDE)
    encoder = build_encoder(config, seed)
    if spoil:
        with torch.no_grad():
            next(parameter for parameter in encoder.parameters() if parameter.requires_grad)[:] = torch.nan
    save_encoder(folder, encoder, config, {})


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder)
    return folder


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_encoder(folder / "encoder")
    return folder


@pytest.fixture(scope="session")
def reader(encoder_folder: Path) -> Reader:
    return open_reader(encoder_folder, device="cpu")
