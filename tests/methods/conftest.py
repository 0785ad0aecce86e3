"""Small methods and batches."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch

from stillhouse.data.labels import Labels
from stillhouse.data.stream import Batch
from stillhouse.methods.method import Method
from stillhouse.methods.table import find_method
from stillhouse.networks.build import EncoderConfig, build_encoder
from stillhouse.networks.encoder import Encoder
from stillhouse.networks.teacher import FrozenTeacher

MakeMethod = Callable[..., Method]


def random_batch(images: int = 8, size: int = 16, seed: int = 0, views: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    made = tuple(torch.rand(images, 3, size, size, generator=generator) for _ in range(views))
    return Batch(made, torch.arange(images))


def companions(kind: str) -> list[Encoder | FrozenTeacher | list[FrozenTeacher]]:
    """What a method needs beside its encoder; another architecture, so that nothing fits by chance."""
    if not kind:
        return []
    other = build_encoder(EncoderConfig(name="resnet10", image_size=16), 5)
    if kind == "teachers":
        return [[FrozenTeacher(other)]]
    return [FrozenTeacher(other) if kind == "teacher" else other]


def known_labels(name: str) -> list[Labels]:
    """Labels of 64 images in three classes, every fourth unknown, for a method that learns from them."""
    numbers = torch.arange(64) % 4
    return [Labels(numbers.where(numbers < 3, -1), ("a", "b", "c"))] if find_method(name).learns_from_labels else []


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
    }
    known = {field.name for field in fields(entry.config)}
    config = replace(entry.config(**{key: narrow[key] for key in narrow if key in known}), **settings)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return entry.method(config, network, *companions(entry.companion), *known_labels(name))


@pytest.fixture
def make_method() -> MakeMethod:
    """`build_method`."""
    return build_method
