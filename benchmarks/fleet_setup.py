"""What a fleet needs before it runs, made by the command line: images of everybody, a first core, a state folder."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from stillhouse.config import assign, parse_toml, to_toml
from stillhouse.edge.learning.splits import dirichlet
from stillhouse.edge.learning.teaching import EdgeConfig
from stillhouse.edge.service.folder import StateFolder
from stillhouse.evaluation.split import hold_out
from stillhouse.training.settings import TrainingConfig

SERVER, EACH, ALPHA = 2000, 1000, 0.3
USERS = ("usual", "slow", "killed", "late", "offline")
HOSTILE = "hostile"
CORE = {
    "encoder.name": "cnn_micro",
    "method.head_layer": 0,
    "method.zero_output": "false",
    "method.views.views": "[{min_area = 0.5, jitter = 0.0, grayscale = 0.0, blur = 0.0, interpolation = 'bilinear'}]",
    "training.steps": 0,
    "training.epochs": 40,
    "training.batch_size": 64,
    "training.warmup_epochs": 1,
    "training.optimizer": "sgd",
    "training.learning_rate": 0.4,  # 0.1 at this batch size
    "training.weight_decay": 5e-4,
    "training.decay_all": "true",
}
"""How the first core is trained: from nothing, on the labels of the server's images."""
VISIT = {"steps": 150, "warmup_epochs": 0, "learning_rate": 0.08, "checkpoint_steps": 25, "log_steps": 25}
"""How clones are trained, where it differs: about ten epochs, from 0.02 on."""
TERMS = {
    "leases.deadline_floor": 900,
    "lesson.distilling.epochs": 1,
    "lesson.distilling.batch_size": 64,
    "lesson.distilling.learning_rate": 0.02,
}
"""Of leases and lessons, where they differ: patience with the slow one, and short lessons, for it is one machine."""


@dataclass(frozen=True)
class Fleet:
    """The folder of a fleet."""

    folder: Path

    @property
    def core(self) -> Path:
        """Run directory of the first core."""
        return self.folder / "core"

    @property
    def state(self) -> StateFolder:
        """Of the service."""
        return StateFolder(self.folder / "state")

    def images(self, name: str) -> Path:
        """Of a user, or of the server."""
        return self.folder / "images" / f"{name}.parquet"

    def invite(self, name: str) -> Path:
        """Of a user."""
        return self.folder / f"{name}.invite"


def call(fleet: Fleet, *arguments: str) -> None:
    """Run a command of the command line in the fleet's folder; what it says is shown.

    Raises:
        CalledProcessError: it fails.
    """
    print(f"$ stillhouse {' '.join(arguments)}", flush=True)
    command, settings = [sys.executable, "-m", "stillhouse", *arguments], {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=fleet.folder, env=settings, check=True)


def deal(fleet: Fleet, data: Path, seed: int) -> None:
    """Give server and users their images, each in a file of their own: labels skewed by user, no image with two owners.

    What the first core learns from is the server's images without those that the service will hold out.
    """
    if all(fleet.images(name).exists() for name in ("server", "core", *USERS)):
        return
    fleet.images("server").parent.mkdir(parents=True, exist_ok=True)
    table = pq.read_table(data)
    order = np.random.default_rng(seed).permutation(len(table))[: SERVER + EACH * len(USERS)]
    labels = torch.tensor(table["label"].to_numpy()[order[SERVER:]])
    hands = dirichlet(labels, len(USERS), ALPHA, seed)
    pq.write_table(table.take(order[:SERVER]), fleet.images("server"))
    pq.write_table(pq.read_table(fleet.images("server")).take(learnt_by_core(fleet)), fleet.images("core"))
    for name, hand in zip(USERS, hands, strict=True):
        pq.write_table(table.take(order[SERVER:][hand.numpy()]), fleet.images(name))


def learnt_by_core(fleet: Fleet) -> list[int]:
    """Places of the server's images that the service does not hold out: it decides by images new to the core."""
    labels = pq.read_table(fleet.images("server"), columns=["label"])["label"].to_numpy()
    learnt, _ = hold_out(torch.tensor(labels), EdgeConfig().held_out, TrainingConfig().seed)
    places: list[int] = learnt.tolist()
    return places


def held(fleet: Fleet, name: str) -> list[int]:
    """How many images of each class somebody has."""
    labels = pq.read_table(fleet.images(name), columns=["label"])["label"].to_numpy()
    counts: list[int] = np.bincount(labels, minlength=10).tolist()
    return counts


def train_core(fleet: Fleet) -> None:
    """Train the first core, or go on with it."""
    if (fleet.core / "classifier").exists():
        return
    if (fleet.core / "checkpoints").exists():
        call(fleet, "resume", "core")
        return
    settings = [text for name, value in CORE.items() for text in ("--set", f"{name}={value}")]
    call(fleet, "train", "simclrv2-finetune", "--data", str(fleet.images("core")), "--out", "core", *settings)


def open_service(fleet: Fleet, port: int, page_port: int, urls: dict[str, str]) -> None:
    """Make the state folder and one invitation for everybody; what an earlier fleet left there is gone.

    Args:
        fleet: with a first core.
        port: of the service.
        page_port: of the status page.
        urls: where users find the server who go another way than the others.
    """
    for path in (fleet.state.path, fleet.folder / "devices"):
        shutil.rmtree(path, ignore_errors=True)
    ports = {"service.port": port, "service.page_port": page_port, "service.host": "127.0.0.1"}
    settings = [text for name, value in {**ports, **TERMS}.items() for text in ("--set", f"{name}={value}")]
    data = ["--data", str(fleet.images("server"))]
    call(fleet, "edge", "init", "state", "--core", "core", *data, "--name", "localhost", *settings)
    _say_how_clones_train(fleet.state.core_file)
    for name in (*USERS, HOSTILE):
        fleet.invite(name).unlink(missing_ok=True)
        other: Sequence[str] = ("--url", urls[name]) if name in urls else ()
        call(fleet, "edge", "invite", name, "--state", "state", *other)


def _say_how_clones_train(path: Path) -> None:
    """Write other settings for the visits into `core.toml`, as its owner may."""
    table = parse_toml(path.read_text(), str(path))
    del table["recipe"]["training"]["epochs"]  # a length in steps takes its place
    for name, value in VISIT.items():
        table = assign(table, f"recipe.training.{name}", value)
    path.write_text(to_toml(table))
