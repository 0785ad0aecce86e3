"""Runs side by side: what leads, what differs, what keeps scores from being compared, and mistakes in one message."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import typer

from stillhouse.cli import comparing
from stillhouse.errors import RunError
from stillhouse.report.comparison import compare
from stillhouse.report.comparison.scores import Table
from tests.report.runs import RECIPE, evaluation, log, make_full_run, make_run, result, step
from tests.report.test_page import EVIL, Page


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return make_full_run(tmp_path / "a").rename(tmp_path / "first")


def another(first: Path, name: str, *, recipe: str = RECIPE, **changes: Any) -> Path:
    run = Path(shutil.copytree(first, first.parent / name))
    (run / "recipe.toml").write_text(recipe)
    (run / "evaluation.json").write_text(json.dumps(evaluation(**changes)))
    (run / "encoder/card.json").write_text(json.dumps({"sha256": name}))
    return run


def knn_table(found: list[Table]) -> Table:
    return next(table for table in found if "knn(" in table.title)


def test_only_settings_that_differ_are_shown(first: Path, tmp_path: Path) -> None:
    recipe = RECIPE.replace("temperature = 0.2", "temperature = 0.1") + 'kind = "crop"\n'
    compare([first, another(first, "second", recipe=recipe)], tmp_path / "c.html")
    words = Page(tmp_path / "c.html").text
    assert "2 settings differ; all others are the same." in words
    assert "method.temperature0.20.1" in words
    assert "method.views.kind\u2013crop" in words
    assert "method.views.count" not in words


def test_those_lead_that_no_other_surely_beats(first: Path, tmp_path: Path) -> None:
    """With 10,000 images 58.7 and 58.2 % lie within the noise, 50 % does not."""
    close = [result("encoder", 1, 0.582)]
    runs = [first, another(first, "close", results=close), another(first, "far", results=[result("encoder", 1, 0.5)])]
    table = knn_table(compare(runs, tmp_path / "c.html")[0])
    assert table.leaders[1] == {0, 1}
    assert [row[1][0].replace("\u202f", " ") for row in table.rows] == ["58.7 %", "58.2 %", "50.0 %"]
    assert table.rows[0][1][1].endswith("block 2")
    assert table.rows[0][3] == ("+25.9", "over 32.8")
    assert table.rows[1][3] == ("\u2013", "")


def test_other_images_are_told_and_nobody_leads(first: Path, tmp_path: Path) -> None:
    data = {"train": "train.parquet", "test": "test.parquet", "train_images": 50_000, "test_images": 500}
    second = another(first, "second", data=data | {"classes": ["cat", "dog"]})
    found, told = compare([first, second], tmp_path / "c.html")
    assert len(told) == 1
    assert told[0].startswith("Scores are of different test images and not to be compared across them: first: test.")
    assert told[0].endswith("parquet (10,000 images, 2 classes); second: test.parquet (500 images, 2 classes).")
    assert not any(knn_table(found).leaders)
    assert told[0] in Page(tmp_path / "c.html").text


def test_missing_scores_and_stale_ones_are_told(first: Path, tmp_path: Path) -> None:
    stale = another(first, "stale", encoder={"name": "vit_micro", "weights_sha256": "older"})
    bare = make_run(tmp_path / "x", {"recipe.toml": RECIPE, "log.jsonl": log(step(1))}).rename(tmp_path / "bare")
    told = compare([first, stale, bare], tmp_path / "c.html")[1]
    assert told[0].startswith("No accuracy was measured of bare")
    assert told[1].startswith("stale was trained on since it was evaluated")


def test_copies_of_one_run_are_told(first: Path, tmp_path: Path) -> None:
    second = another(first, "second")
    shutil.copy(second / "encoder/card.json", first / "encoder/card.json")
    assert compare([first, second], tmp_path / "c.html")[1] == ["first and second hold the same weights."]


def test_curves_lie_over_each_other_and_the_loss_only_where_it_is_the_same(first: Path, tmp_path: Path) -> None:
    second = another(first, "second", recipe=RECIPE.replace("temperature = 0.2", "temperature = 0.1"))
    compare([first, another(first, "third")], tmp_path / "same.html")
    same = Page(tmp_path / "same.html")
    assert [line["name"] for line in same.charts["blocks-0"]["data"]] == ["first", "third"]
    assert set(same.charts) == {"blocks-0", "blocks-1", "time-0", "time-1", "time-2"}
    compare([first, second], tmp_path / "other.html")
    assert set(Page(tmp_path / "other.html").charts) == {"blocks-0", "blocks-1", "time-0", "time-1"}


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    runs = [make_full_run(tmp_path / name) for name in ("a", "b")]
    assert [row[0][0] for row in compare(runs, tmp_path / "c.html")[0][0].rows] == ["a/run", "b/run"]


def test_hostile_names_stay_text(first: Path, tmp_path: Path) -> None:
    recipe = RECIPE.replace('"sdssl-mocov3"', json.dumps(EVIL))
    second = another(first, "<b onclick=x>", recipe=recipe, results=[result("encoder", 1, 0.4, EVIL)])
    compare([first, second], tmp_path / "c.html")
    page = Page(tmp_path / "c.html")
    assert len(page.scripts) == 3
    assert "<b onclick=x>" in page.text
    assert not [name for _, name, _ in page.attributes() if name.startswith("on")]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "found 0 run"),
        (("first",), "found 1 run to compare; name two or more"),
        (("first", "./first"), "are the same run; name each once"),
        (("first", "nowhere"), "nowhere: no such run directory"),
        (("first", "a"), "name the directory of a run"),
    ],
)
def test_mistakes_are_one_message_and_nothing_is_written(
    first: Path, tmp_path: Path, names: tuple[str, ...], message: str
) -> None:
    with pytest.raises(RunError, match=message):
        compare([tmp_path / name for name in names], tmp_path / "c.html")
    assert not (tmp_path / "c.html").exists()


def test_the_terminal_has_the_same_tables(first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    application = typer.Typer()
    application.command()(comparing.compare)
    second = another(first, "second", results=[result("encoder", 1, 0.5)])
    application([str(first), str(second), "--out", str(tmp_path / "c.html")], standalone_mode=False)
    printed = capsys.readouterr().out.replace("\u202f", " ")
    assert "58.7 % *" in printed
    assert "50.0 % *" not in printed
    assert f"written: {tmp_path / 'c.html'}" in printed
