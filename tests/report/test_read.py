"""Damaged, torn and repeated files of a run directory."""

import json
from pathlib import Path

import numpy as np
import pytest

from stillhouse.errors import RunError
from stillhouse.report import write_report
from stillhouse.report.read import read_run
from tests.report.runs import RECIPE, evaluation, health, log, make_run, samples, save_samples, step


def test_a_directory_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such run directory; check the path"):
        write_report(tmp_path / "nowhere")


def test_a_directory_without_a_run_is_refused_and_left_alone(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="name the directory of a run"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tail", [b'{"kind": "step", "step": 3', b'{"kind": "he\xc3', b"\0\0\0\0", b"12", b""])
def test_a_torn_last_line_is_skipped(tmp_path: Path, tail: bytes) -> None:
    run = make_run(tmp_path, {"log.jsonl": log(step(1), step(2))})
    with open(run / "log.jsonl", "ab") as file:
        file.write(tail)
    assert [line.step for line in read_run(run).steps] == [1, 2]


@pytest.mark.parametrize("damaged", ['{"kind": "st', "12", "\0\0"])
def test_an_unreadable_line_before_the_last_is_named(tmp_path: Path, damaged: str) -> None:
    run = make_run(tmp_path, {"log.jsonl": log(step(1)) + "\n" + damaged + "\n" + log(step(2))})
    with pytest.raises(RunError, match=r"log\.jsonl, line 3: unreadable"):
        write_report(run)


def test_a_line_with_a_wrong_value_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"log\.jsonl, line 2: loss: "):
        read_run(make_run(tmp_path, {"log.jsonl": log(step(1), step(2, loss="much"))}))


def test_the_last_line_of_a_step_and_kind_wins(tmp_path: Path) -> None:
    entries = [step(1, loss=9.0), step(2, loss=8.0), health(2), {"kind": "later", "x": 1}, step(1, loss=7.0), step(3)]
    run = read_run(make_run(tmp_path, {"log.jsonl": log(*entries)}))
    assert [(line.step, line.loss) for line in run.steps[:2]] == [(1, 7.0), (2, 8.0)]
    assert [line.step for line in run.health] == [2]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("recipe.toml", "name = "),
        ("evaluation.json", "{"),
        ("evaluation.json", "[]"),
        ("evaluation.json", json.dumps(evaluation(results=[{"subject": "encoder"}]))),
        ("encoder/card.json", "nonsense"),
        ("samples.npz", "nonsense"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: str) -> None:
    run = make_run(tmp_path, {"recipe.toml": RECIPE, "log.jsonl": log(step(1)), name: content})
    with pytest.raises(RunError, match=name.replace(".", r"\.")):
        write_report(run)
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("change", ["type", "images", "channels", "pickle", "missing"])
def test_samples_of_another_kind_are_refused(tmp_path: Path, change: str) -> None:
    run, arrays = make_run(tmp_path, {"log.jsonl": log(step(1))}), samples()
    if change == "missing":
        del arrays["views"]
    else:
        views = arrays["views"]
        changed = {"type": views.astype(float), "images": views[:, :3], "channels": views[..., :2]}
        arrays["views"] = changed.get(change, np.array([{}], dtype=object))
    save_samples(run, arrays)
    with pytest.raises(RunError, match=r"samples\.npz.*delete it"):
        read_run(run)


def test_quarantine_keeps_reasons_and_skips_headings(tmp_path: Path) -> None:
    run = read_run(
        make_run(tmp_path, {"log.jsonl": log(step(1)), "quarantine.txt": "# id\treason\na.jpg\ttruncated\n\nb.jpg\n"})
    )
    assert run.quarantine == ("a.jpg\ttruncated", "b.jpg")
