"""One SuperLink and SuperNodes as processes: they teach a core, one is killed on the way, another comes late."""

import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import stillhouse
from stillhouse.edge.learning.opening import open_teaching, read_lesson
from stillhouse.edge.service.core import create_core, open_lesson, read_core
from stillhouse.edge.service.folder import StateFolder
from stillhouse.edge.service.service import Service
from stillhouse.errors import RunError
from tests.edge.flower.federation import Federation, federation

pytestmark = pytest.mark.skipif(find_spec("flwr") is None, reason="flwr is not installed; `make flower` has it")

TINY = {
    "data.limit": 64,
    "encoder.name": "vit_nano",
    "training.epochs": 1,
    "training.batch_size": 16,
    "evaluation.every": 0,
    "training.health_steps": 0,
}
TERMS = {
    "leases.beat_seconds": 5,
    "leases.allowed_fall": 1e9,
    "lesson.gate.drift": 1e9,
    "lesson.gate.rank_share": 0.0,
    "lesson.trial.shares": (),
}
"""Whatever comes teaches: how well is not what is asked here."""
LONGEST = 600.0
"""Seconds for everything; far less on a machine that does nothing else."""

Lease = tuple[str, str, str, int, int]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A core of two steps."""
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path / "cache"))
    stillhouse.train("simclr", data="digits", out=tmp_path / "run", settings=TINY)
    create_core(tmp_path / "state", tmp_path / "run", "digits", TERMS, read_lesson)
    return tmp_path / "state"


@pytest.fixture
def flower(tmp_path: Path) -> Iterator[Federation]:
    folder = tmp_path / "flower"
    folder.mkdir()
    with federation(folder) as running:
        yield running


def save_digits(folder: Path, begin: int) -> str:
    """Forty digits from `begin` on, as files."""
    folder.mkdir()
    for number, image in enumerate(load_digits().images[begin : begin + 40]):
        Image.fromarray((image * 15.9).astype(np.uint8)).save(folder / f"{number}.png")
    return str(folder)


def read_leases(state: Path) -> list[Lease]:
    """Node, state, reason, and bytes each way, oldest first; from outside, while the service is at work."""
    path = state / "edge.db"
    if not path.exists():
        return []
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        known = connection.execute("select 1 from sqlite_master where name = 'leases'").fetchall()
        query = "select node, state, reason, bytes_down, bytes_up from leases order by granted"
        return connection.execute(query).fetchall() if known else []


def test_nodes_teach_a_core_at_their_own_pace(tmp_path: Path, state: Path, flower: Federation) -> None:
    until = time.monotonic() + LONGEST

    def wait(wanted: Callable[[list[Lease]], object]) -> list[Lease]:
        while time.monotonic() < until:
            if wanted(leases := read_leases(state)):
                return leases
            time.sleep(0.2)
        pytest.fail(f"not within {LONGEST:g} s; leases: {read_leases(state)}\n{flower.told()}")

    for number, name in enumerate(("first", "second")):
        flower.node(name, data=save_digits(tmp_path / name, 40 * number))
    run = flower.run(state=str(state))
    early = {lease[0] for lease in wait(lambda leases: len({lease[0] for lease in leases}) == 2)}
    flower.node("killed", data=save_digits(tmp_path / "killed", 80))
    leases = wait(lambda leases: {lease[0] for lease in leases} - early)
    (killed,) = {lease[0] for lease in leases} - early
    flower.kill("killed")
    flower.node("late", data=save_digits(tmp_path / "late", 120))

    def is_enough(leases: list[Lease]) -> bool:
        taught = Counter(node for node, end, *_ in leases if end == "applied")
        return sum(taught.values()) > 3 and len(taught) == 3 and (killed, "lost", "silent") in {x[:3] for x in leases}

    leases = wait(is_enough)
    assert all(node != killed for node, end, *_ in leases if end == "applied")
    assert all(0 < down == up for _, end, _, down, up in leases if end == "applied")
    flower.stop(run)
    reopen(state, sum(end == "applied" for _, end, *_ in read_leases(state)))


def reopen(state: Path, applied: int) -> None:
    """The run lets go of the folder, and what it taught is there."""
    until = time.monotonic() + 60
    while time.monotonic() < until:  # stopped is told before the ServerApp's process has ended
        try:
            os.close(StateFolder(state).lock())
            break
        except RunError:
            time.sleep(0.2)
    service = Service(state, open_lesson(state, open_teaching), read_core(state).leases)
    with closing(service):
        assert service.core.version >= applied
        assert StateFolder(state).version_file(service.core.version, service.core.digest).exists()
