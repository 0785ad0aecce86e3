"""Untrained encoders in the folders of runs, and images to show them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stillhouse.export.exporting import Images
from stillhouse.networks.build import EncoderConfig, build_encoder
from stillhouse.networks.saved import save_encoder

MakeEncoder = Callable[..., Path]


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> MakeEncoder:
    """Save an encoder by name; the same folder for the same words."""
    made: dict[str, Path] = {}

    def make(name: str = "vit_nano", image_size: int = 16, **settings: object) -> Path:
        key = f"{name} {image_size} {settings}"
        if key not in made:
            config = EncoderConfig(name=name, image_size=image_size, **settings).fit(image_size)  # type: ignore[arg-type]
            encoder = build_encoder(config, seed=7)
            random = torch.Generator().manual_seed(3)
            with torch.no_grad():
                for buffer, tensor in encoder.named_buffers():  # as if it had been trained
                    if buffer.endswith("running_mean"):
                        tensor.normal_(0.0, 0.05, generator=random)
            made[key] = tmp_path_factory.mktemp("run") / "encoder"
            card = {"method": "simclr", "steps": 12, "data": "/home/someone/photos", "labels": "without"}
            save_encoder(made[key], encoder, config, card)
        return made[key]

    return make


def some_images(image_size: int, count: int = 40) -> Images:
    """Smooth random images, half of them for calibration."""
    random = torch.Generator().manual_seed(1)
    coarse = torch.rand(2 * count, 3, 4, 4, generator=random)
    shown = torch.nn.functional.interpolate(coarse, size=(image_size, image_size), mode="bilinear")
    return Images(shown[:count], shown[count:], "made for this test")
