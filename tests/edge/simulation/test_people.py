"""Who takes part, and what happens to them."""

import math

import pytest
import torch

from stillhouse.edge.simulation.people import gather_people, plan_visit
from tests.edge.simulation.crowd import make_scenario

HANDS = [torch.arange(user * 3, user * 3 + 3) for user in range(200)]


def test_roles_are_shared_out_and_follow_from_the_seed() -> None:
    scenario = make_scenario(
        users={"number": 200},
        attackers={"share": 0.3, "kinds": ["boost", "noise"]},
        time={"slow": 5, "slower": 100.0, "spread": 0.1},
    )
    people = gather_people(scenario, HANDS, 0)
    kinds = [person.attack for person in people]
    assert (kinds.count("boost"), kinds.count("noise"), kinds.count("")) == (30, 30, 140)
    assert sum(person.speed > 50 for person in people) == 5
    assert not any(person.attack and person.speed > 50 for person in people)
    assert people == gather_people(scenario, HANDS, 0)
    assert kinds != [person.attack for person in gather_people(scenario, HANDS, 1)]


def test_speeds_and_delays_have_the_spread_that_is_asked_for() -> None:
    scenario = make_scenario(time={"spread": 0.5, "delay": 10.0, "step": 2.0}, churn={"lost": 0.25})
    people = gather_people(scenario, HANDS, 0)
    logs = torch.tensor([math.log(person.speed) for person in people])
    assert logs.mean().item() == pytest.approx(0.0, abs=0.15)
    assert logs.std().item() == pytest.approx(0.5, abs=0.1)
    plans = [(person, plan_visit(scenario, person, 0, visit)) for person in people for visit in range(5)]
    delays = torch.tensor([plan.seconds - 2 * 2.0 * person.speed for person, plan in plans])
    assert delays.min().item() >= 0
    assert delays.mean().item() == pytest.approx(10.0, rel=0.15)
    assert sum(plan.lost for _, plan in plans) / len(plans) == pytest.approx(0.25, abs=0.05)


def test_users_come_and_go() -> None:
    scenario = make_scenario(churn={"live": 50, "leaving": 0.2, "arriving": 10.0})
    people = gather_people(scenario, HANDS, 0)
    assert [person.joins for person in people[:50]] == [0.0] * 50
    joins = [person.joins for person in people[50:]]
    assert joins == sorted(joins)
    assert joins[0] > 0
    assert joins[-1] < math.inf
    for moment in (0.0, 60.0, 300.0, 600.0):
        assert sum(person.joins <= moment < person.leaves for person in people) <= 50
    stays = torch.tensor([person.leaves - person.joins for person in people])
    assert stays.mean().item() == pytest.approx(300.0, rel=0.2)  # a fifth a minute


def test_nobody_comes_where_nobody_makes_room() -> None:
    people = gather_people(make_scenario(churn={"live": 3, "arriving": 10.0}), HANDS[:5], 0)
    assert [person.joins for person in people] == [0.0, 0.0, 0.0, math.inf, math.inf]
    assert all(person.leaves == math.inf for person in people)


@pytest.mark.parametrize(("leaving", "arriving"), [(1e-300, 1.0), (1e-4, 1e6)])
def test_a_newcomer_waits_for_room_however_long(leaving: float, arriving: float) -> None:
    scenario = make_scenario(churn={"live": 2, "leaving": leaving, "arriving": arriving})
    people = gather_people(scenario, HANDS[:4], 0)
    first = min(person.leaves for person in people[:2])
    assert [person.joins for person in people[:2]] == [0.0, 0.0]
    assert first <= people[2].joins <= people[3].joins
