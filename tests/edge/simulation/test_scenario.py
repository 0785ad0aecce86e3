"""What a scenario says, and what is said against it."""

from pathlib import Path

import pytest

from stillhouse.edge.simulation.scenario import find_scenario, read_scenario, shipped_scenarios
from stillhouse.errors import SettingsError
from tests.edge.simulation.crowd import TABLE, make_scenario


@pytest.mark.parametrize("name", shipped_scenarios())
def test_shipped_scenarios_are_read_and_written_alike(name: str) -> None:
    scenario = find_scenario(name)
    assert scenario.about.name == name
    assert scenario.about.summary
    assert read_scenario(scenario.to_table()) == scenario


def test_a_contestant_is_the_common_lesson_with_what_it_names() -> None:
    scenario = make_scenario({"lesson.distilling.epochs": 7.0, "contestants.default.lesson.distilling.attend": 0.25})
    assert scenario.contestants["fedasync"].lesson == scenario.lesson
    own = scenario.contestants["default"].lesson
    assert (own.rule, own.distilling.epochs, own.distilling.attend) == ("distil", 7.0, 0.25)
    assert scenario.lesson.rule == "fedasync"


def test_all_mistakes_are_told_at_once() -> None:
    table = {
        **TABLE,
        "user": {},
        "users": {"numbr": 3},
        "churn": {"lost": 1.5},
        "attackers": {"kinds": ["sign_flop"]},
        "contestants": {"a/b": {}, "late": {"wating": 2, "lesson": {"rul": "fedavg"}}},
        "encoder": {"name": "cnn_nanno"},
    }
    with pytest.raises(SettingsError) as error:
        read_scenario(table)
    told = str(error.value)
    for hint in (
        "user: no such setting; did you mean users",
        "users.numbr: no such setting; did you mean users.number",
        "churn.lost",
        "did you mean sign_flip",
        "contestants.a/b: names a folder",
        "contestants.late.wating: no such setting; did you mean contestants.late.waiting",
        "contestants.late.lesson.rul: no such setting; did you mean contestants.late.lesson.rule",
        "did you mean cnn_nano",
    ):
        assert hint in told


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"contestants.default.lesson.held_out": 0.5}, "set lesson.held_out instead"),
        ({"visits.each": 0}, "would never end"),
        ({"method": {"name": "seed"}}, "needs a teacher"),
        (
            {"method": {"name": "simclr"}, "attackers": {"share": 0.5, "kinds": ["boost", "label_flip"]}},
            "label_flip changes labels, and simclr learns without",
        ),
        ({"contestants": {}}, "none named"),
        ({"leases.deadline_floor": 1e9}, "deadline_ceiling"),
        ({"leases.at_least": 3}, "leases.at_least: 3, .* set contestants.NAME.waiting"),
        ({"leases.together": 2}, "leases.together: 2, .* set contestants.NAME.waiting"),
        ({"lesson.answers.images": 8}, "^lesson.answers.images: 8 questions"),
        ({"contestants.default.lesson.answers.images": 8}, "^contestants.default.lesson.answers.images: 8 questions"),
        ({"time.slow": 5}, "time.slow: 5 of 4 users"),
    ],
)
def test_contradictions_are_told(changes: dict[str, object], hint: str) -> None:
    with pytest.raises(SettingsError, match=hint):
        make_scenario(changes)


def test_a_scenario_is_a_shipped_one_or_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('seeds = 2\n[method]\nname = "simclr"\n[contestants.default]\n')
    mine = find_scenario(str(path), {"users.number": 3})
    assert (mine.about.name, mine.seeds, mine.users.number) == ("mine", 2, 3)
    with pytest.raises(SettingsError, match="did you mean quick"):
        find_scenario("quik")
    with pytest.raises(SettingsError, match="check the path"):
        find_scenario(str(tmp_path / "absent.toml"))
