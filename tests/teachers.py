"""A teacher on disk, for methods that need one."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stillhouse.methods.table import METHODS
from stillhouse.networks.build import EncoderConfig, build_encoder
from stillhouse.networks.classifier import Classifier, save_classifier
from stillhouse.networks.saved import load_encoder, save_encoder


def save_teacher(folder: Path, **card: str) -> Path:
    """An untrained encoder in the files that a run leaves behind; always the same weights."""
    config = EncoderConfig(name="resnet10", image_size=16).fit(16)
    save_encoder(folder / "encoder", build_encoder(config, 5), config, card)
    return folder


def save_teacher_of_classes(folder: Path, classes: tuple[str, ...] = tuple("0123456789")) -> Path:
    """An untrained classifier in the files that a run leaves behind; of digits unless told otherwise."""
    save_teacher(folder)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        encoder, _ = load_encoder(folder / "encoder")
        save_classifier(folder, Classifier(encoder, nn.Sequential(), classes, zero_output=False), {})
    return folder


def settings_for(method: str, folder: Path) -> dict[str, Any]:
    """What a tiny run of this method needs beside what every run needs; a teacher is saved where there is one."""
    entry = METHODS[method]
    known = {field.name for field in fields(entry.config)}
    small = {"queue_size": 40, "num_prototypes": 24, "num_negatives": 32}
    settings: dict[str, Any] = {f"method.{name}": small[name] for name in small if name in known}
    if entry.companion == "classifier":
        settings["teacher.source"] = str(save_teacher_of_classes(folder / "classifier"))
    if entry.companion == "head":
        settings["method.head_layer"] = 0
    if entry.companion == "teacher":
        settings["teacher.source"] = str(save_teacher(folder / "teacher"))
    if entry.companion == "peer":
        settings["peer.name"] = "resnet10"
    return settings
