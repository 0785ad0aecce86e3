"""One run: the same whenever it is repeated, true to the service, and told as the page reads it."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from stillhouse.edge.simulation.chronicle import absent_fall
from stillhouse.edge.simulation.people import gather_people
from stillhouse.edge.simulation.records import line
from stillhouse.edge.simulation.world import Marks
from tests.edge.simulation.crowd import first_core, make_scenario, make_world, of, play

BUSY = {"leaving": 0.6, "arriving": 3.0, "live": 3, "lost": 0.2}


def test_a_run_is_the_same_when_it_is_repeated_and_whoever_registers_first(tmp_path: Path) -> None:
    scenario = make_scenario(churn=BUSY, users={"number": 6}, visits={"each": 0, "total": 4})
    people = gather_people(scenario, make_world(6).hands, 0)
    told = []
    for number, order in enumerate((people, people, [people[place] for place in (3, 1, 5, 0, 4, 2)])):
        *rest, end = play(tmp_path / ("again" * (number + 1)), scenario, people=order)
        told.append("".join(map(line, [*rest, {**end, "wall_seconds": 0.0}])))
    assert told[0] == told[1] == told[2]
    other = "".join(map(line, play(tmp_path / "other", scenario, seed=1)))
    assert '"digest"' in other
    assert other.partition('"digest"')[2][:70] != told[0].partition('"digest"')[2][:70]


def test_records_are_complete_and_in_order(tmp_path: Path) -> None:
    records = play(tmp_path, make_scenario(), "default")
    start, end = records[0], records[-1]
    assert (start["kind"], end["kind"]) == ("start", "end")
    times = [record["time"] for record in records]
    assert times == sorted(times)
    assert [user["name"] for user in start["users"]] == [f"user-000{number}" for number in range(4)]
    assert start["users"][1]["classes"] == [1, 2]
    assert start["test"] == make_world().exam.mark(first_core()).accuracy
    visits, lessons = of(records, "visit"), of(records, "lesson")
    assert len(visits) == 8
    applied = [visit for visit in visits if visit["state"] == "applied"]
    assert [lesson["version"] for lesson in lessons] == [*range(1, len(applied) + 1)]
    assert (end["version"], end["test"]) == (len(lessons), lessons[-1]["test"])
    assert sum(lessons[0]["recalls"]) / 3 == pytest.approx(lessons[0]["test"])  # classes of equal size
    assert "kept" in lessons[0]["measures"]
    for visit in visits:
        assert visit["staleness"] == sum(visit["sent"] < lesson["time"] < visit["time"] for lesson in lessons)


def test_bytes_are_those_of_completed_and_lost_visits(tmp_path: Path) -> None:
    records = play(tmp_path, make_scenario(churn={"lost": 0.5}, visits={"each": 0, "total": 5}))
    visits, size = of(records, "visit"), records[0]["model_bytes"]
    lost = [visit for visit in visits if visit["state"] == "lost"]
    assert lost
    assert {(visit["down"], visit["up"]) for visit in lost} == {(size, 0)}
    assert {visit["reason"] for visit in lost} <= {"silent", "joined again"}
    done = len(visits) - len(lost)
    total = sum(visit["down"] + visit["up"] for visit in visits)
    assert done == 5
    assert total == (2 * done + len(lost)) * size


def test_nothing_happens_at_another_time_under_another_rule(tmp_path: Path) -> None:
    scenario = make_scenario(churn=BUSY, users={"number": 6}, visits={"each": 1})

    def happened(name: str) -> list[tuple[object, ...]]:
        records = play(tmp_path / name, scenario, name)
        told = [record for record in records if record["kind"] in ("visit", "joined", "left")]
        return [(r["kind"], r["time"], r["user"], r.get("sent"), r.get("state") == "lost") for r in told]

    assert happened("default") == happened("fedasync")


def test_whoever_leaves_is_gone_for_good(tmp_path: Path) -> None:
    scenario = make_scenario(churn={**BUSY, "lost": 0.0}, users={"number": 6}, visits={"each": 0, "total": 14})
    records = play(tmp_path, scenario)
    gone = {record["user"]: record["time"] for record in of(records, "left")}
    assert gone
    joined = [record["user"] for record in of(records, "joined")]
    assert len(joined) == len(set(joined)) > 3
    assert max(record["live"] for record in of(records, "joined")) == 3
    for visit in of(records, "visit"):
        if visit["user"] in gone:
            assert visit["sent"] <= gone[visit["user"]]
            assert visit["state"] == "lost" or visit["time"] <= gone[visit["user"]]
    assert any(visit["reason"] == "silent" for visit in of(records, "visit"))


def test_a_deadline_is_kept_or_not_as_the_terms_say(tmp_path: Path) -> None:
    late = {"deadline_floor": 1.0, "deadline_factor": 0.5, "deadline_ceiling": 12.0, "beat_seconds": 2.0}
    slow = {"delay": 0.0, "spread": 0.0, "step": 10.0}
    accepted = play(tmp_path / "a", make_scenario(leases={**late, "late": "accept"}, time=slow, visits={"each": 1}))
    assert [visit["state"] for visit in of(accepted, "visit")] == ["applied"] * 4
    wanting = make_scenario(leases={**late, "late": "refuse"}, time=slow, churn={"leaving": 2.0})
    refused = of(play(tmp_path / "r", wanting), "visit")
    assert {visit["state"] for visit in refused} == {"lost"}
    assert {visit["reason"] for visit in refused} == {"deadline", "silent"}
    again = [visit for visit in refused if visit["sent"] > 0]
    assert again
    assert all(visit["sent"] >= 12 for visit in again)


SLOW = {"delay": 0.0, "spread": 0.0, "step": 10.0, "slow": 1, "slower": 12.0}  # 20 seconds, or 240


def test_who_never_keeps_a_deadline_does_not_go_on_for_ever(tmp_path: Path) -> None:
    terms = {"late": "refuse", "deadline_floor": 60.0, "deadline_ceiling": 200.0}
    scenario = make_scenario(users={"number": 3}, time=SLOW, leases=terms)
    people = [replace(person, leaves=3000.0) for person in gather_people(scenario, make_world(3).hands, 0)]
    records = play(tmp_path, scenario, people=people)
    assert sorted(visit["state"] for visit in of(records, "visit")) == ["applied"] * 4 + ["lost"] * 2
    assert records[-1]["time"] < 500


def test_a_visit_that_was_lost_before_it_was_given_up_is_told(tmp_path: Path) -> None:
    terms = {"late_seconds": 20.0, "deadline_floor": 60.0, "deadline_ceiling": 200.0}
    scenario = make_scenario(users={"number": 3}, time=SLOW, leases=terms, visits={"each": 2, "total": 6})
    visits = of(play(tmp_path, scenario), "visit")
    assert [(visit["reason"], visit["time"]) for visit in visits if visit["state"] == "lost"] == [
        ("deadline", 230.0), ("deadline", 470.0),
    ]  # fmt: skip
    assert len(visits) == 6


def test_a_visit_that_was_lost_before_its_user_was_shut_out_is_told(tmp_path: Path) -> None:
    scenario = make_scenario(
        users={"number": 1}, attackers={"share": 1.0, "kinds": ["not_a_number"]}, visits={"total": 1},
        time={"delay": 0.0, "spread": 0.0, "step": 60.0, "lesson": 100.0},
        leases={"strikes": 1, "deadline_floor": 60.0, "deadline_ceiling": 60.0},
    )  # fmt: skip
    visits = of(play(tmp_path, scenario), "visit")
    assert [(visit["state"], visit["sent"], visit["time"]) for visit in visits] == [
        ("refused", 0.0, 220.0), ("lost", 120.0, 220.0),
    ]  # fmt: skip


def test_who_sends_rubbish_is_shut_out(tmp_path: Path) -> None:
    scenario = make_scenario(attackers={"share": 0.25, "kinds": ["not_a_number"]}, leases={"strikes": 1})
    records = play(tmp_path, scenario)
    (bad,) = [user["name"] for user in records[0]["users"] if user["attack"]]
    visits = [visit for visit in of(records, "visit") if visit["user"] == bad]
    assert [visit["state"] for visit in visits] == ["refused"]
    assert "not finite" in visits[0]["reason"]
    assert [record["user"] for record in of(records, "left")] == [bad]
    assert all(bad not in lesson["users"] for lesson in of(records, "lesson"))


def test_clones_that_wait_for_each_other_share_a_lesson(tmp_path: Path) -> None:
    scenario = make_scenario(contestants={"pairs": {"waiting": 2, "lesson": {"rule": "fedbuff"}, "allowed_fall": 1.0}})
    records = play(tmp_path, scenario, "pairs")
    lessons = of(records, "lesson")
    assert [len(lesson["users"]) for lesson in lessons] == [2] * 4
    place = records.index(lessons[0])
    assert [record["user"] for record in records[place - 2 : place]] == lessons[0]["users"]
    assert records[place - 1]["time"] == lessons[0]["time"]


def test_who_is_refused_beside_one_who_teaches_is_as_stale_as_before_the_lesson(tmp_path: Path) -> None:
    scenario = make_scenario(
        users={"number": 2}, attackers={"share": 0.5, "kinds": ["not_a_number"]}, visits={"each": 1},
        contestants={"pairs": {"waiting": 2}},
    )  # fmt: skip
    told = {visit["state"]: visit["staleness"] for visit in of(play(tmp_path, scenario, "pairs"), "visit")}
    assert told == {"applied": 0, "refused": 0}


def test_a_lesson_takes_time_where_it_is_counted(tmp_path: Path) -> None:
    scenario = make_scenario(time={"delay": 0.0, "spread": 0.0, "lesson": 7.0}, visits={"each": 1})
    lessons = of(play(tmp_path, scenario), "lesson")
    assert [lesson["time"] for lesson in lessons] == [9.0, 16.0, 23.0, 30.0]  # all come back after two steps


def test_a_slow_user_does_not_hold_others_up(tmp_path: Path) -> None:
    quick = make_scenario(users={"number": 3})
    slow = replace(quick, time=replace(quick.time, slow=1, slower=50.0))
    (late,) = {u["name"] for u in play(tmp_path / "s", slow)[0]["users"] if u["speed"] > 10}

    def times(folder: str, scenario: object) -> list[tuple[str, float]]:
        records = play(tmp_path / folder, scenario)  # type: ignore[arg-type]
        return [(visit["user"], visit["time"]) for visit in of(records, "visit") if visit["user"] != late]

    assert times("t", slow) == times("q", quick)


def test_whose_training_breaks_down_gives_nothing_back_and_the_run_ends(tmp_path: Path) -> None:
    scenario = make_scenario(local={"steps": 6, "learning_rate": 1e30}, users={"number": 3}, visits={"each": 1})
    records = play(tmp_path, scenario)
    visits = of(records, "visit")
    assert [(visit["state"], visit["reason"], visit["up"]) for visit in visits] == [("lost", "silent", 0)] * 3
    assert records[-1]["version"] == 0


def test_a_fall_in_absent_classes_is_their_mean() -> None:
    before, after = Marks(0.5, (0.5, 0.9, 0.2), 0.0), Marks(0.5, (0.9, 0.6, 0.3), 0.0)
    assert absent_fall(before, after, [0]) == pytest.approx((0.3 - 0.1) / 2)
    assert absent_fall(before, after, [1]) == 0.0
    assert absent_fall(before, after, [0, 2]) == pytest.approx(0.3)
    assert math.isnan(absent_fall(before, after, [0, 1, 2]))
