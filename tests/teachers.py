"""A teacher on disk, for methods that need one."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from stillhouse.methods.table import METHODS
from stillhouse.networks.build import EncoderConfig, build_encoder
from stillhouse.networks.saved import save_encoder


def save_teacher(folder: Path, **card: str) -> Path:
    """An untrained encoder in the files that a run leaves behind; always the same weights."""
    config = EncoderConfig(name="resnet10", image_size=16).fit(16)
    save_encoder(folder / "encoder", build_encoder(config, 5), config, card)
    return folder


def settings_for(method: str, folder: Path) -> dict[str, Any]:
    """What a tiny run of this method needs beside what every run needs; a teacher is saved where there is one."""
    entry = METHODS[method]
    known = {field.name for field in fields(entry.config)}
    small = {"queue_size": 40, "num_prototypes": 24, "num_negatives": 32}
    settings: dict[str, Any] = {f"method.{name}": small[name] for name in small if name in known}
    if entry.group == "teacher":
        settings["teacher.source"] = str(save_teacher(folder / "teacher"))
    if entry.companion == "peer":
        settings["peer.name"] = "resnet10"
    return settings
