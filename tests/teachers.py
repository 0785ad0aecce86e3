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
    """What a tiny run of this method, or of a sum such as `simclr + seed`, needs beside what every run needs.

    A teacher is saved where there is one.
    """
    names = method.split(" + ")
    is_sum = len(names) > 1
    settings: dict[str, Any] = {"method.name": "sum", "method.methods": names} if is_sum else {}
    small = {"queue_size": 40, "num_prototypes": 24, "num_negatives": 32}
    for name in names:
        known = {field.name for field in fields(METHODS[name].config)}
        prefix = f"method.{name}." if is_sum else "method."
        settings |= {f"{prefix}{key}": small[key] for key in small if key in known}
        settings |= {f"{prefix}head_layer": 0} if "head_layer" in known else {}
    needed = {kind for name in names for kind in METHODS[name].companions}
    if "simclrv2-distill" in names:
        settings["teacher.source"] = str(save_teacher_of_classes(folder / "classifier"))
    elif needed & {"teacher", "teachers"}:
        settings["teacher.source"] = str(save_teacher(folder / "teacher"))
    if "peer" in needed:
        settings["peer.name"] = "resnet10"
    return settings
