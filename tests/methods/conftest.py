"""Small methods and batches."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import nn

from stillhouse.data.labels import Labels
from stillhouse.data.stream import Batch
from stillhouse.methods.method import Method
from stillhouse.methods.table import find_method
from stillhouse.networks.build import EncoderConfig, build_encoder
from stillhouse.networks.classifier import Classifier
from stillhouse.networks.heads import first_layers, mlp
from stillhouse.networks.teacher import FrozenTeacher

MakeMethod = Callable[..., Method]


def random_batch(images: int = 8, size: int = 16, seed: int = 0, views: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    made = tuple(torch.rand(images, 3, size, size, generator=generator) for _ in range(views))
    return Batch(made, torch.arange(images))


CLASSES = ("a", "b", "c")


def companions(kind: str, dim: int) -> list[nn.Module]:
    """What a method needs beside its encoder of width `dim`; other architectures, so that nothing fits by chance."""
    other = build_encoder(EncoderConfig(name="resnet10", image_size=16), 5)
    if kind == "head":
        return [first_layers(mlp([dim, 24, 8], output_norm=True), 1)]
    if kind == "classifier":
        with torch.random.fork_rng():
            torch.manual_seed(5)
            return [FrozenTeacher(Classifier(other, nn.Sequential(), CLASSES, zero_output=False))]
    if kind == "teacher":
        return [FrozenTeacher(other)]
    return [other] if kind == "peer" else []


def known_labels(name: str) -> list[Labels]:
    """Labels of 64 images in three classes, every fourth unknown, for a method that learns from them."""
    numbers = torch.arange(64) % 4
    return [Labels(numbers.where(numbers < 3, -1), CLASSES)] if find_method(name).learns_from_labels else []


def build_method(name: str, encoder: str = "vit_nano", seed: int = 0, **settings: Any) -> Method:
    """A method by name on a small encoder, with narrow heads."""
    entry = find_method(name)
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
    known = {field.name for field in fields(entry.config)}
    config = replace(entry.config(**{key: narrow[key] for key in narrow if key in known}), **settings)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return entry.method(config, network, *companions(entry.companion, network.dim), *known_labels(name))


@pytest.fixture
def make_method() -> MakeMethod:
    """`build_method`."""
    return build_method
