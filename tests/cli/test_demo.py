"""The demo runs through, and what it shows is true: learning adds much to raw pixels and to the network untrained."""

import json
from pathlib import Path
from typing import Any

import pytest

from stillhouse.cli.demo import run_demo
from stillhouse.errors import RunError
from stillhouse.recipes.recipe import find_recipe, read_recipe

TINY = {
    "data.limit": 64,
    "training.epochs": 2,
    "training.batch_size": 16,
    "evaluation.bank_size": 32,
    "evaluation.query_size": 16,
    "evaluation.linear": False,
    "evaluation.alignment_images": 16,
    "evaluation.atlas_images": 24,
}


@pytest.fixture(autouse=True)
def cache_folder(leaves_nothing_behind: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path / "cache"))


def accuracies(out: Path, subject: str) -> list[float]:
    results: list[dict[str, Any]] = json.loads((out / "evaluation.json").read_text())["results"]
    return [r["accuracy"] for r in results if r["subject"] == subject and r["protocol"].startswith("knn")]


def test_a_short_demo_ends_with_a_report_and_next_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    run_demo(out, TINY)
    printed = capsys.readouterr().out
    assert f"report: {out / 'report.html'}" in printed
    assert [line.strip()[:2] for line in printed.splitlines()[-3:]] == ["1.", "2.", "3."]
    assert "accuracy" in (out / "report.html").read_text()
    judged = json.loads((out / "evaluation.json").read_text())["data"]
    assert (judged["train"], judged["test"]) == ("scenes", "scenes#test")
    with pytest.raises(RunError, match=r"already holds a run.*choose another --out"):
        run_demo(out, TINY)


def test_the_recipe_says_what_it_reached() -> None:
    about = read_recipe(find_recipe("demo")).about
    assert "stillhouse demo" in about.expected


@pytest.mark.slow
def test_the_demo_shows_what_learning_adds(tmp_path: Path) -> None:
    run_demo(tmp_path / "demo")
    learnt = accuracies(tmp_path / "demo", "encoder")
    baselines = accuracies(tmp_path / "demo", "untrained") + accuracies(tmp_path / "demo", "pixels")
    assert max(learnt) > max(baselines) + 0.15
    assert learnt[-1] > max(baselines) + 0.10
