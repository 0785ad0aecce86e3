"""A core, a device with few images, and the wire between them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from stillhouse.edge.device.client import Client
from stillhouse.edge.device.device import Device
from stillhouse.methods.travel import pack
from stillhouse.recipes.preparing import prepare
from stillhouse.recipes.run import alongside, as_wanted
from tests.edge.device.wire import Core, serving

RECIPE: dict[str, Any] = {
    "encoder": {"name": "vit_nano", "image_size": 16},
    "method": {"name": "simclrv2-finetune", "head_layer": 0, "zero_output": False},
    "data": {"classes": ["bird", "cat", "dog"], "store_size": 16},
    "training": {
        "epochs": 4,
        "batch_size": 8,
        "warmup_epochs": 0,
        "checkpoint_steps": 4,
        "log_steps": 1,
        "learning_rate": 1e-2,
    },
}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep decoded images out of the user's cache."""
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def save_images(folder: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 8) -> Path:
    """`count` pictures of noise of each class."""
    draw = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight cats and eight dogs."""
    return save_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def model(images: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A core that tells three classes, of which the device has two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLHOUSE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        wanted = as_wanted(RECIPE, str(images))
        with alongside(wanted), torch.random.fork_rng():
            return save(dict(pack(prepare(wanted).method)))


@dataclass
class Joined:
    """A device on the wire."""

    device: Device
    core: Core
    said: list[str]
    slept: list[float]
    kept: list[bytes]
    """Returns as they lay on the disk of the device."""


Join = Callable[..., AbstractContextManager[Joined]]


@pytest.fixture
def joined(tmp_path: Path, images: Path, model: bytes) -> Join:
    """A core with faults, and a device that never sleeps for long."""

    @contextmanager
    def open_wire(**faults: Any) -> Iterator[Joined]:
        core = Core(**({"model": model, "recipe": RECIPE} | faults))
        with serving(core, tmp_path) as invite:
            client = Client(invite)
            said, slept, kept = list[str](), list[float](), list[bytes]()

            def tell(line: str) -> None:
                said.append(line)
                if line.startswith("trained"):
                    kept.append(device.visit.returned.read_bytes())

            device = Device(client, tmp_path / "state", str(images), tell=tell, sleep=slept.append)
            try:
                yield Joined(device, core, said, slept, kept)
            finally:
                client.close()

    return open_wire
