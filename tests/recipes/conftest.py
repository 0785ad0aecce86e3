"""Tiny runs on the built-in digits."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from stillhouse.recipes.directory import Run
from stillhouse.recipes.run import train
from tests.teachers import settings_for

TrainTiny = Callable[..., Run]

TINY = {
    "data.limit": 64,
    "encoder.name": "vit_nano",
    "training.epochs": 3,
    "training.batch_size": 16,
    "training.warmup_epochs": 1,
    "training.log_steps": 1,
    "training.health_steps": 4,
    "training.checkpoint_steps": 5,
    "evaluation.every": 1,
    "evaluation.batch_size": 64,
}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep decoded images out of the user's cache."""
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def train_tiny(tmp_path_factory: pytest.TempPathFactory) -> TrainTiny:
    """Twelve steps of a method on 64 digits."""
    folder = tmp_path_factory.mktemp("companions")

    def run(out: Path, method: str = "simclr", listeners: Any = (), settings: Mapping[str, Any] | None = None) -> Run:
        wanted = TINY | settings_for(method, folder) | dict(settings or {})
        return train({"method": {"name": method}}, "digits#train", out, wanted, listeners)

    return run
