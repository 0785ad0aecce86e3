"""Small methods and batches."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import nn

from stillhouse.data.labels import Labels
from stillhouse.data.stream import Batch
from stillhouse.methods.choice import Choice, Companion, Part
from stillhouse.methods.method import Method
from stillhouse.methods.table import find_method
from stillhouse.networks.build import EncoderConfig, build_encoder
from stillhouse.networks.heads import first_layers, mlp
from stillhouse.networks.teacher import FrozenTeacher

MakeMethod = Callable[..., Method]


def random_batch(
    images: int = 8, size: int = 16, seed: int = 0, views: int = 2, like: nn.Module | None = None
) -> Batch:
    """Noise in the dtype of the weights of `like`, else in float32."""
    generator = torch.Generator().manual_seed(seed)
    dtype = next(like.parameters()).dtype if like else torch.float32
    made = tuple(torch.rand(images, 3, size, size, generator=generator).to(dtype) for _ in range(views))
    return Batch(made, torch.arange(images))


CLASSES = ("a", "b", "c")


def companions(dim: int) -> dict[str, Companion]:
    """What methods need beside an encoder of width `dim`; other architectures, so that nothing fits by chance."""
    other = build_encoder(EncoderConfig(name="resnet10", image_size=16), 5)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        teacher = FrozenTeacher(other, classifier=nn.Linear(other.dim, len(CLASSES)), classes=CLASSES)
        head = first_layers(mlp([dim, 24, 8], output_norm=True), 1)
    return {"teacher": teacher, "teachers": [teacher], "peer": other, "head": head, "labels": known_labels()}


def known_labels() -> Labels:
    """Labels of 64 images in three classes, every fourth unknown."""
    numbers = torch.arange(64) % 4
    return Labels(numbers.where(numbers < 3, -1), CLASSES)


def build_method(name: str, encoder: str = "vit_nano", seed: int = 0, **settings: Any) -> Method:
    """A method by name, or a sum such as `simclr + seed`, on a small encoder, with narrow heads."""
    network = build_encoder(EncoderConfig(name=encoder, image_size=16, patch_size=4 * encoder.startswith("vit")), seed)
    narrow = {
        "hidden_dim": 32,
        "output_dim": 16,
        "queue_size": 20,
        "num_prototypes": 24,
        "num_images": 64,
        "num_negatives": 16,
        "zero_output": False,  # or the encoder gets no gradient in the first step
        "label_weight": 0.5,
    }
    parts: list[Part] = []
    for part in name.split(" + "):
        kind = find_method(part).config
        known = {field.name for field in fields(kind)}
        config = replace(kind(**{key: narrow[key] for key in narrow if key in known}), **settings)
        parts.append(Part(name=part, config=config, weight=1.0 / (1 + len(parts))))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Choice(tuple(parts)).build(network, companions(network.dim))


@pytest.fixture
def make_method() -> MakeMethod:
    """`build_method`."""
    return build_method
