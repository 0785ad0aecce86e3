"""Every number of the tables: by hand on small records, and by a slow loop over the lines of a whole fleet."""

import json
import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from stillhouse.report.simulation.averaging import averaged
from stillhouse.report.simulation.measuring import target_gain, without_numbers
from stillhouse.report.simulation.read import read_study
from stillhouse.report.simulation.records import Study
from stillhouse.report.simulation.results import tables
from stillhouse.report.simulation.table import Column, Spread, Table
from tests.report.simulation.fleets import Entry, end, lesson, make_fleet, start, user, visit, write_runs

USERS = [user("a"), user("b", "sign_flip"), user("c")]
MEASURES = {"attend": 0.2, "retain": 0.7, "useful_attend": None, "kept": 1.0}
FIRST: list[Entry] = [
    start(USERS),
    *({"kind": "joined", "time": 0, "user": name, "live": live} for live, name in enumerate("ab", 1)),
    visit(60, "a"),
    lesson(60, 1, 0.6, absent_fall=0.02, measures=MEASURES, backdoor=0.3),
    {"kind": "joined", "time": 90, "user": "c", "live": 3},
    visit(100, "b", staleness=1),
    lesson(100, 2, 0.4, absent_fall=0.1, measures=MEASURES | {"attend": 0.4, "useful_attend": 0.9}, backdoor=0.5),
    visit(120, "b", "refused", staleness=2, reason="12.5% fewer"),
    {"kind": "left", "time": 130, "user": "b", "live": 2},
    visit(160, "b", "lost", reason="silent"),
    visit(300, "c", "refused", staleness=2, reason="7% fewer"),
    visit(360, "c", staleness=0),
    lesson(360, 3, 0.8),
    end(400, 0.8),
]
SECOND = [start(USERS, seed=1, test=0.6), visit(100, "a", "lost", down=50, reason=""), end(200, 0.6)]
OTHERS = [start(USERS, contestant="theirs"), visit(100, "a"), lesson(100, 1, 0.55), end(100, 0.55)]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return read_study(write_runs(tmp_path, {"ours/0": FIRST, "ours/1": SECOND, "theirs/0": OTHERS}))


def rows_of(study: Study) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Rows by table and by contestant (and attack), with the values of a spread in its place."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for table in tables(study):
        for row in table.plain()["rows"]:
            values = {key: cell["values"] if isinstance(cell, dict) else cell for key, cell in row.items()}
            found.setdefault(table.name, {})[row["contestant"]] = values
    return found


def near(*values: float) -> Any:
    return pytest.approx(list(values), abs=1e-12)


def test_accuracy_at_the_end_best_and_worst(study: Study) -> None:
    row = rows_of(study)["accuracy"]["ours"]
    assert row["core"] == [0.5, 0.6]
    assert row["final"] == [0.8, 0.6]
    assert row["gain"] == near(0.3, 0.0)
    assert (row["best"], row["worst"], row["seeds"]) == ([0.8, 0.6], [0.4, 0.6], 2)


def test_mean_and_deviation_are_those_over_seeds(study: Study) -> None:
    cell = tables(study)[0].plain()["rows"][0]["final"]
    assert cell["mean"] == pytest.approx(0.7)
    assert cell["deviation"] == pytest.approx(math.sqrt(0.02))  # of 0.8 and 0.6: (0.1^2 + 0.1^2) / (2 - 1)


def test_attackers_and_honest_users_are_counted_apart(study: Study) -> None:
    row = rows_of(study)["attacks"]["ours"]
    assert row["attack"] == "sign_flip"
    assert row["attackers_accepted"] == [0.5, None]  # one of two returns; what was lost did not come back
    assert row["honest_accepted"] == [pytest.approx(2 / 3), None]
    assert row["lowest"] == near(-0.1, 0.0)
    assert row["backdoor"] == [None, None]  # the last lesson measured none
    assert rows_of(study)["attacks"]["theirs"]["honest_accepted"] == [1.0]


def test_accuracy_at_quarters_of_the_time(study: Study) -> None:
    rows = rows_of(study)["time"]
    assert [rows["ours"][f"accuracy_{share}"] for share in (25, 50, 75, 100)] == [
        [0.4, 0.6], [0.4, 0.6], [0.4, 0.6], [0.8, 0.6],
    ]  # fmt: skip
    assert rows["ours"]["start"] == [0.5, 0.6]
    assert [rows["theirs"][f"accuracy_{share}"] for share in (25, 100)] == [[0.55], [0.55]]


def test_staleness_of_what_came_back(study: Study) -> None:
    row = rows_of(study)["staleness"]["ours"]  # 0 1 2 2 0, and nothing with the other seed
    assert row["returns"] == [5, 0]
    assert row["fresh"] == [0.4, None]
    assert row["mean"] == [1.0, None]
    assert (row["median"], row["most"], row["largest"]) == ([1, None], [2, None], [2, None])


def test_who_came_and_went(study: Study) -> None:
    row = rows_of(study)["flow"]["ours"]
    assert (row["came"], row["left"]) == ([1, 0], [1, 0])
    assert [row[f"live_{share}"] for share in (25, 50, 75, 100)] == [[3, 3], [2, 3], [2, 3], [2, 3]]
    assert [row[f"returns_{share}"][0] for share in (25, 50, 75, 100)] == [2, 3, 4, 5]
    assert "theirs" not in rows_of(study)["flow"]


def test_bytes_and_time_to_half_of_the_best_gain(study: Study) -> None:
    assert target_gain(study) == pytest.approx(0.075)  # ours gains 0.3 and 0, theirs 0.05
    row = rows_of(study)["cost"]["ours"]
    assert (row["down"], row["up"], row["lost"]) == ([600, 50], [500, 0], [100, 50])
    assert (row["target_bytes"], row["target_seconds"]) == ([200, None], [60.0, None])
    assert row["target_runs"] == "1 of 2"
    assert rows_of(study)["cost"]["theirs"]["target_runs"] == "0 of 1"


def test_bytes_of_lost_visits_count_on_the_way_to_the_target(tmp_path: Path) -> None:
    entries = [start(USERS), visit(30, "a", "lost"), visit(60, "a"), lesson(60, 1, 0.7), end(60, 0.7)]
    study = read_study(write_runs(tmp_path, {"ours/0": entries}))
    assert rows_of(study)["cost"]["ours"]["target_bytes"] == [300]


def test_the_target_is_reached_where_it_is_met_exactly(tmp_path: Path) -> None:
    entries = [start(USERS, test=0.1), visit(60, "a"), lesson(60, 1, 0.2), lesson(70, 2, 0.3), end(90, 0.3)]
    study = read_study(write_runs(tmp_path, {"ours/0": entries}))
    assert rows_of(study)["cost"]["ours"]["target_seconds"] == [60]


def test_without_a_gain_there_is_no_target(tmp_path: Path) -> None:
    entries = [start(USERS), visit(60, "a"), lesson(60, 1, 0.4), end(60, 0.4)]
    study = read_study(write_runs(tmp_path, {"ours/0": entries}))
    (row,) = rows_of(study)["cost"].values()
    assert (row["target_bytes"], row["target_runs"]) == ([None], "0 of 1")
    assert "no target" in next(table.note for table in tables(study) if table.name == "cost")


def test_edge_bias_and_measures_are_means_over_lessons_that_have_them(study: Study) -> None:
    row = rows_of(study)["bias"]["ours"]
    assert row["edge_bias"] == [pytest.approx(0.06), None]
    assert row["attend"] == [pytest.approx(0.3), None]
    assert row["useful_attend"] == [0.9, None]
    assert "useful_retain" not in row
    assert "theirs" not in rows_of(study)["bias"]


def test_fates_with_reasons_alike_but_for_numbers(study: Study) -> None:
    row = rows_of(study)["fates"]["ours"]
    assert [row[name] for name in ("visits", "applied", "refused", "lost")] == [7, 3, 2, 2]
    assert row["reasons"] == "refused: 2 \u2026% fewer; lost: 1 silent, 1 no reason given"
    assert without_numbers("falls by 1.2e-05, not -3") == "falls by \u2026, not \u2026"


def test_tables_without_what_they_need_are_left_out(tmp_path: Path) -> None:
    quiet = read_study(write_runs(tmp_path, {"ours/0": [start([user("a")]), end(0, 0.5)]}))
    assert [table.name for table in tables(quiet)] == ["accuracy", "cost", "fates"]


def test_a_slow_loop_over_the_lines_agrees(tmp_path: Path) -> None:
    folder = make_fleet(tmp_path, contestants=4, seeds=2)
    rows = rows_of(read_study(folder))
    read = [[json.loads(line) for line in path.read_text().splitlines()] for path in sorted(folder.glob("runs/*/*"))]
    horizon = max(lines[-1]["time"] for lines in read)
    names = sorted({lines[0]["contestant"] for lines in read})
    gains = {
        name: statistics.mean(run[-1]["test"] - run[0]["test"] for run in read if run[0]["contestant"] == name)
        for name in names
    }
    for name in names:
        slow: dict[str, list[float | None]] = {key: [] for key in ("half", "bytes", "seconds", "worst", "bias", "live")}
        for run in (lines for lines in read if lines[0]["contestant"] == name):
            core = half = worst = run[0]["test"]
            crossed, falls, there = 0, [], 0
            hit: tuple[int, float] | None = None
            for line in run:
                if line["kind"] in ("joined", "left") and line["time"] <= horizon / 2:
                    there = line["live"]
                if line["kind"] == "visit":
                    crossed += line["down"] + line["up"]
                if line["kind"] == "lesson":
                    worst = min(worst, line["test"])
                    falls.append(line["absent_fall"])
                    half = line["test"] if line["time"] <= horizon / 2 else half
                    if hit is None and line["test"] - core >= max(gains.values()) / 2:
                        hit = (crossed, line["time"])
            for key, value in zip(
                slow, (half, *(hit or (None, None)), worst, sum(falls) / len(falls), there), strict=True
            ):
                slow[key].append(value)
        assert rows["time"][name]["accuracy_50"] == slow["half"]
        assert rows["cost"][name]["target_bytes"] == slow["bytes"]
        assert rows["cost"][name]["target_seconds"] == slow["seconds"]
        assert rows["accuracy"][name]["worst"] == slow["worst"]
        assert rows["bias"][name]["edge_bias"] == [pytest.approx(value) for value in slow["bias"]]
        assert rows["flow"][name]["live_50"] == slow["live"]


def test_averaged_steps_hold_the_mean_at_every_change(study: Study) -> None:
    steps = averaged(study.contestants["ours"], lambda moment: moment.time, 400.0)
    assert steps.x == (0.0, 60, 100, 360, 400.0)
    assert steps.mean == pytest.approx((0.55, 0.6, 0.5, 0.7, 0.7))
    assert steps.deviation == pytest.approx([abs(a - 0.6) / math.sqrt(2) for a in (0.5, 0.6, 0.4, 0.8, 0.8)])


def test_averaged_steps_over_bytes_keep_the_last_core_of_equal_places(tmp_path: Path) -> None:
    entries = [start(USERS), visit(60, "a"), lesson(60, 1, 0.6), lesson(61, 2, 0.7), end(70, 0.7)]
    (run,) = read_study(write_runs(tmp_path, {"ours/0": entries})).runs
    steps = averaged([run], lambda moment: moment.bytes, 200)
    assert (steps.x, steps.mean) == ((0.0, 200), (0.5, 0.7))


def test_a_table_reads_alike_in_all_its_forms() -> None:
    columns = (Column("name", "rule", "text"), Column("size", "sent", "bytes"), Column("gain", "gain", "points"))
    rows = (("a|b <i>", Spread((2e6, 4e6)), Spread((-0.01, -0.03))), ("c", Spread((math.nan,)), Spread((0.5,))))
    table = Table("sizes", "Sizes", "", columns, rows)
    assert [[cell.strip() for cell in line.replace("\\|", "/").split("|")[1:-1]] for line in table.lines()] == [
        ["rule", "sent, MB", "gain, points"],
        ["-" * 12, "-" * 13, "-" * 14],
        ["a/b \\<i\\>", "3.00 \u00b1 1.41", "\u22122.00 \u00b1 1.41"],
        ["c", "\u2013", "+50.00"],
    ]
    assert len({len(line) for line in table.lines()}) == 1
    assert table.plain()["rows"][1] == {
        "name": "c",
        "size": {"mean": None, "deviation": None, "values": [None]},
        "gain": {"mean": 0.5, "deviation": None, "values": [0.5]},
    }
    assert "a|b &lt;i&gt;" in table.html()
    assert "\u22122.00 <small>\u00b1 1.41</small>" in table.html()
