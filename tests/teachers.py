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
    needed = {kind for name in names for kind in METHODS[name].companions}
    if needed & {"teacher", "teachers"}:
        settings["teacher.source"] = str(save_teacher(folder / "teacher"))
    if "peer" in needed:
        settings["peer.name"] = "resnet10"
    return settings
