"""From a run directory to a state folder, and its commands."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import stillhouse
from stillhouse.cli.main import main
from stillhouse.edge.service.core import Beginning, create_core, open_lesson, read_core
from stillhouse.edge.service.folder import StateFolder
from stillhouse.errors import RunError, SettingsError
from stillhouse.methods.travel import unpack
from stillhouse.recipes.preparing import prepare
from stillhouse.recipes.recipe import read_recipe
from tests.edge.service.fleet import Averaging

TINY = {
    "data.limit": 32,
    "encoder.name": "vit_nano",
    "training.epochs": 1,
    "training.batch_size": 16,
    "evaluation.every": 0,
    "training.health_steps": 0,
}

Command = Callable[..., str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps."""
    folder = tmp_path_factory.mktemp("core") / "run"
    patch = pytest.MonkeyPatch()
    patch.setenv("STILLHOUSE_CACHE", str(folder.parent / "cache"))
    stillhouse.train("simclr", data="digits", out=folder, settings=TINY)
    patch.undo()
    return folder


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run `stillhouse edge ...` in `tmp_path`: what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["stillhouse", "edge", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capfd.readouterr()
        assert ended.value.code == code, told
        return told.out + told.err

    return call


def test_a_lesson_begins_from_the_runs_weights(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path / "cache"))
    state = tmp_path / "state"
    known = create_core(state, run, "digits", {"lesson.rate": 0.5, "leases.late": "refuse"}, dict)
    assert read_core(state) == known
    assert (known.leases.late, known.lesson, known.service.url) == ("refuse", {"rate": 0.5}, "https://localhost:8443")
    assert set(known.told) == {"data", "encoder", "method", "training"}
    assert known.told["data"] == {"store_size": known.recipe["data"]["store_size"], "classes": []}  # no URI
    begun: list[Beginning] = []

    def make(beginning: Beginning) -> Averaging:
        begun.append(beginning)
        return Averaging(start=beginning.weights)

    lesson = open_lesson(state, make)
    assert (begun[0].recipe["data"]["uri"], begun[0].settings) == ("digits", {"rate": 0.5})
    method = prepare(read_recipe(begun[0].recipe)).method
    unpack(method, lesson.start().state)
    trained = stillhouse.load(run).state_dict()
    assert all(torch.equal(value, trained[name]) for name, value in method.encoder.state_dict().items())


def test_wrong_settings_and_folders(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path / "cache"))
    state = tmp_path / "state"
    with pytest.raises(SettingsError, match=r"leases\.lat: no such setting; did you mean leases\.late"):
        create_core(state, run, "digits", {"leases.lat": "refuse"}, dict)
    with pytest.raises(SettingsError, match=r"training\.epochs: only"):
        create_core(state, run, "digits", {"training.epochs": 3}, dict)
    with pytest.raises(SettingsError, match="at_least"):
        create_core(state, run, "digits", {"leases.at_least": 3}, dict)
    assert not state.exists()
    with pytest.raises(RunError, match="not a run directory"):
        create_core(state, tmp_path / "nothing", "digits", {}, dict)
    with pytest.raises(RunError, match="not a state folder"):
        read_core(state)


def test_the_commands(run: Path, command: Command, tmp_path: Path) -> None:
    init = ("init", "state", "--core", str(run), "--data", "digits")
    assert "stillhouse edge invite NAME --state state" in command(
        *init, "--name", "edge.example", "--name", "192.0.2.7"
    )
    assert "holds a core already" in command(*init, code=4)
    assert "written: kitchen.invite" in command("invite", "kitchen", "--state", "state")
    told = json.loads((tmp_path / "kitchen.invite").read_text())
    assert set(told) == {"url", "ca", "node", "private_key"}
    assert (told["url"], told["node"]) == ("https://edge.example:8443", "kitchen")
    assert (tmp_path / "kitchen.invite").stat().st_mode & 0o077 == 0
    assert "is there already" in command("invite", "kitchen", "--state", "state", code=2)
    (tmp_path / "kitchen.invite").unlink()
    assert "invited before" in command("invite", "kitchen", "--state", "state", "--url", "https://x", code=2)
    assert not (tmp_path / "kitchen.invite").exists()
    assert "shut out: kitchen" in command("revoke", "kitchen", "--state", "state")
    assert "no such node" in command("revoke", "attic", "--state", "state", code=2)
    assert "not a state folder" in command("status", "nowhere", code=4)
    assert StateFolder(tmp_path / "state").path.stat().st_mode & 0o077 == 0
