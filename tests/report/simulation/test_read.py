"""Record files that are whole, that are not yet, and that are damaged."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from stillhouse.errors import RunError
from stillhouse.report.simulation.read import read_study
from tests.report.simulation.fleets import Entry, end, lesson, start, text, user, visit, write_runs

USERS = [user("a"), user("b")]
WHOLE = [start(USERS), visit(60, "a"), lesson(60, 1, 0.6), end(70, 0.6)]
OTHER = [start(USERS, seed=1), end(0, 0.5)]


def folder_of(folder: Path, entries: Sequence[Entry]) -> Path:
    return write_runs(folder, {"ours/0": entries, "ours/1": OTHER})


def test_a_whole_run_comes_back_as_it_was_written(tmp_path: Path) -> None:
    study = read_study(write_runs(tmp_path, {"ours/0": WHOLE}))
    (run,) = study.runs
    assert (run.start.contestant, run.start.seed, run.start.recalls) == ("ours", 0, (0.4, 0.6))
    assert [type(event).__name__ for event in run.events] == ["Visit", "Lesson"]
    assert (run.visits[0].down, run.visits[0].up, run.end.test) == (100, 100, 0.6)
    assert (study.name, study.folder, study.missing) == ("two users", tmp_path.name, ())


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_file_that_was_cut_off_counts_as_missing(tmp_path: Path, cut: int) -> None:
    folder = folder_of(tmp_path, WHOLE)
    path = folder / "runs" / "ours" / "0.jsonl"
    path.write_text(text(WHOLE).rstrip("\n")[:-cut])
    study = read_study(folder)
    assert [run.start.seed for run in study.runs] == [1]
    assert study.missing == ("ours 0",)


@pytest.mark.parametrize("lines", [0, 1, 2, 3])
def test_a_run_without_its_end_counts_as_missing(tmp_path: Path, lines: int) -> None:
    assert read_study(folder_of(tmp_path, WHOLE[:lines])).missing == ("ours 0",)


def test_planned_runs_that_nobody_began_are_missing(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, WHOLE)
    (folder / "scenario.toml").write_text('seeds = 2\n[contestants.ours]\n[contestants."the others"]\n')
    assert read_study(folder).missing == ("the others 0", "the others 1")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ([WHOLE[0], visit(60, "c"), *WHOLE[2:]], "line 2: a user whom the first line does not name"),
        ([WHOLE[0], visit(60, "a", sent=61.0), *WHOLE[2:]], "line 2: decided before it was sent"),
        ([WHOLE[0], visit(60, "a", state="gone"), *WHOLE[2:]], "line 2: state: input should be 'applied'"),
        ([WHOLE[0], visit(60, "a", down=-1), *WHOLE[2:]], "line 2: down: input should be greater"),
        ([*WHOLE[:2], lesson(59, 1, 0.6), WHOLE[3]], "line 3: time 59 after 60"),
        ([*WHOLE[:2], lesson(60, 1, 1.5), WHOLE[3]], "line 3: test: input should be less"),
        ([*WHOLE[:2], lesson(60, 1, 0.6, recalls=[0.1]), WHOLE[3]], "line 3: 1 recalls where the first line has 2"),
        (WHOLE[1:], "line 1: not of kind start"),
        ([*WHOLE, end(80, 0.6)], "line 4: an end that is not the last line"),
        ([*WHOLE[:2], start(USERS, time=60.0), *WHOLE[2:]], "line 3: a second start"),
        ([start(USERS, test=float("nan")), *WHOLE[1:]], "line 1: test: input should be"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_named_with_its_line(tmp_path: Path, change: list[Entry], said: str) -> None:
    with pytest.raises(RunError) as caught:
        read_study(folder_of(tmp_path, change))
    assert f"{tmp_path / 'runs/ours/0.jsonl'}, {said}" in str(caught.value)
    assert str(caught.value).endswith("delete the file and run it again")


@pytest.mark.parametrize("line", ["{", "[]", "7", '"kind"', "[" * 100_000])
def test_an_unreadable_line_within_a_file_is_damage(tmp_path: Path, line: str) -> None:
    folder = folder_of(tmp_path, WHOLE)
    first, *rest = map(json.dumps, WHOLE)
    (folder / "runs" / "ours" / "0.jsonl").write_text("\n".join([first, line, *rest]))
    with pytest.raises(RunError, match="line 2: unreadable"):
        read_study(folder)


def test_lines_of_other_kinds_are_for_other_readers(tmp_path: Path) -> None:
    strange: list[Entry] = [{"kind": "weather"}, {"kind": ["start"]}]
    assert len(read_study(write_runs(tmp_path, {"ours/0": [WHOLE[0], *strange, *WHOLE[1:]]})).runs[0].events) == 2


def test_the_same_run_twice_and_other_scenarios_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="same contestant and seed as in"):
        read_study(write_runs(tmp_path / "twice", {"ours/0": WHOLE, "ours/00": WHOLE}))
    with pytest.raises(RunError, match="of another scenario than"):
        read_study(
            write_runs(tmp_path / "mixed", {"ours/0": WHOLE, "ours/1": [start(USERS, seed=1, scenario="x"), OTHER[1]]})
        )


def test_a_folder_without_a_complete_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no runs/CONTESTANT/SEED\.jsonl in it; name the folder"):
        read_study(tmp_path / "nowhere")
    with pytest.raises(RunError, match="none of its 1 runs is complete"):
        read_study(write_runs(tmp_path, {"ours/0": WHOLE[:2]}))


def test_settings_that_are_not_toml_are_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, WHOLE)
    (folder / "scenario.toml").write_text("[[[")
    with pytest.raises(RunError, match=r"scenario\.toml: is not readable TOML"):
        read_study(folder)
