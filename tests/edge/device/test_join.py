"""`stillhouse edge join` as a process: light, killed, and started again."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from stillhouse.cli.join import join
from stillhouse.edge.device.limits import Limits, OutOfMemory
from stillhouse.errors import SettingsError
from tests.edge.device.conftest import RECIPE, Join
from tests.edge.device.wire import Core, serving


def test_a_device_needs_no_server() -> None:
    """Neither what serves nor what keeps books is imported."""
    heavy = {"starlette", "uvicorn", "sqlalchemy", "fastapi", "fsspec.implementations.http"}
    program = (
        f"import sys, stillhouse.cli.edge, stillhouse.edge.device.device; print(sorted(set(sys.modules) & {heavy}))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def command(path: Path, images: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "stillhouse", "edge", "join", str(path), "--data", str(images), *more]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [({"clip": 1.0}, "give both"), ({"max_memory": "much"}, "is not a size"), ({}, "not an invite")],
)
def test_wrong_arguments_are_told(wrong: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=told):
        join(tmp_path / "x.invite", "digits", **wrong)


@pytest.mark.slow
def test_a_process_that_is_killed_goes_on_to_the_same_return(images: Path, model: bytes, tmp_path: Path) -> None:
    longer: dict[str, Any] = {**RECIPE, "training": {**RECIPE["training"], "epochs": 30}}
    path = tmp_path / "camera.invite"
    whole, core = Core(model, longer, beat=0.2), Core(model, longer, beat=0.2)
    with serving(whole, tmp_path) as invite:
        path.write_text(json.dumps(vars(invite)))
        subprocess.run(command(path, images, "--visits", "1"), check=True, capture_output=True)
    with serving(core, tmp_path) as invite:
        path.write_text(json.dumps(vars(invite)))
        for _ in range(2):
            process = subprocess.Popen(command(path, images, "--visits", "1"), stdout=subprocess.DEVNULL)
            checkpoint = tmp_path / "camera-state/visit/run/checkpoints/last.pt"
            begun = checkpoint.stat().st_mtime if checkpoint.exists() else 0.0
            while process.poll() is None and not (checkpoint.exists() and checkpoint.stat().st_mtime > begun):
                time.sleep(0.01)
            process.kill()
            assert process.wait() == -signal.SIGKILL
        subprocess.run(command(path, images, "--visits", "1"), check=True, capture_output=True)
    assert list(core.leases) == list(whole.leases) == ["lease-0"]
    assert core.returned == whole.returned


def test_too_little_memory_makes_batches_smaller_where_the_loss_allows(
    joined: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_memory(monkeypatch, times=1)
    training = {**RECIPE["training"], "batch_size": 16}
    with joined(recipe={**RECIPE, "training": training}) as wire:
        wire.device.limits = Limits(max_bytes=2**20)
        wire.device.join(visits=1)
    assert len(wire.core.returned) == 1
    assert "memory: 1 MiB do not do; begins anew with batches of 8, 2 for a step" in wire.said


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"method": {"name": "simclr"}}, "images of a batch of simclr learn from each other"),
        ({"training": {**RECIPE["training"], "batch_size": 8}}, "1 MiB do not do for batches of 8"),
    ],
)
def test_too_little_memory_is_an_error_where_batches_must_not_shrink(
    change: dict[str, Any], match: str, joined: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_memory(monkeypatch, times=10)
    with joined(recipe=RECIPE | change) as wire:
        wire.device.limits = Limits(max_bytes=2**20)
        with pytest.raises(SettingsError, match=match):
            wire.device.join(visits=1)
    assert not wire.core.returned


def refuse_memory(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """The system gives too little, so many times."""
    left = iter(range(times))

    @contextmanager
    def limit(max_bytes: int) -> Iterator[None]:
        assert max_bytes == 2**20
        if next(left, None) is not None:
            raise OutOfMemory("12 bytes")
        yield

    monkeypatch.setattr("stillhouse.edge.device.training.memory_limit", limit)
