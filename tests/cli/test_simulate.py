"""`stillhouse edge simulate` as a user meets it."""

import sys
from pathlib import Path

import pytest

from stillhouse.cli.main import main

TINY = [
    f"--set={setting}"
    for setting in (
        "users.number=2",
        "users.classes=5",
        "visits.each=1",
        "local.steps=1",
        "training.epochs=1",
        "data.test_limit=50",
        "lesson.distilling.epochs=0.2",
        "attackers.share=0",
    )
]


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *words: str) -> object:
    """The exit code of a command in a folder."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("STILLHOUSE_CACHE", str(folder / "cache"))
    monkeypatch.setattr(sys, "argv", ["stillhouse", "edge", "simulate", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_a_scenario_is_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["quick", "--out", "a", "--only", "cloned", "--seeds", "2", *TINY]
    assert run(monkeypatch, tmp_path, *words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("cloned, seed 0: ")
    assert lines[1].startswith("cloned, seed 1: ")
    assert any("core only" in line for line in lines)
    assert lines[-1] == "written: a/report.html"
    assert {path.name for path in (tmp_path / "a").iterdir()} > {"results.json", "tables.md", "report.html"}
    assert sorted(path.name for path in (tmp_path / "a" / "runs" / "cloned").iterdir()) == ["0.jsonl", "1.jsonl"]
    assert run(monkeypatch, tmp_path, *words, "--set", "time.delay=1.0") == 4
    assert "time.delay: 10.0 became 1.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["quik", "--out", "a"], "scenario quik: not shipped; did you mean quick?"),
        (["quick", "--out", "a", "--set", "users.nmber=3"], "users.nmber: no such setting; did you mean users.number?"),
        (["quick", "--out", "a", "--only", "defalt"], "--only defalt: no such contestant"),
        (["cifar10-iid", "--out", "a"], "data.uri: no images named; pass --data URI"),
    ],
)
def test_mistakes_are_one_message(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    hint: str,
) -> None:
    assert run(monkeypatch, tmp_path, *words) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert hint in told
    assert "Traceback" not in told
