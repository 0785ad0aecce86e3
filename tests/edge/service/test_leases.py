"""What becomes of a lease when devices are slow, die, come back, or send the same thing twice."""

import dataclasses
import itertools
from typing import Literal

import pytest

from stillhouse.edge.service.leases import MOVES, LeaseConfig
from stillhouse.edge.service.refusals import Gone, Unauthorized, Wait
from stillhouse.errors import RunError, SettingsError
from tests.edge.service.conftest import HTTPS, IN_PROCESS, POSTGRESQL, URL, MakeFleet
from tests.edge.service.fleet import TERMS, changed
from tests.edge.service.simulation import simulate

PATIENT = dataclasses.replace(TERMS, beat_seconds=1000.0)

everywhere = pytest.mark.parametrize("place", [IN_PROCESS, HTTPS, POSTGRESQL])
here = pytest.mark.parametrize("place", [IN_PROCESS, POSTGRESQL])


def test_ends_never_change() -> None:
    assert MOVES["applied"] == MOVES["refused"] == ()
    reached = {state for moves in MOVES.values() for state in moves}
    assert reached == set(MOVES) - {"out"}


@here
def test_a_visit_teaches_the_core(make_fleet: MakeFleet, place: str) -> None:
    fleet = make_fleet(place)
    before = fleet.service.core
    lease = fleet.visit("a", 1.0)
    assert fleet.device("a").state(lease).state == "spooled"
    fleet.teach()
    after = fleet.service.core
    assert (before.version, after.version, fleet.device("a").state(lease).state) == (0, 1, "applied")
    assert (after.state["weight"] - before.state["weight"]).mean().item() == pytest.approx(0.5, abs=0.01)


def test_one_slow_user_slows_nobody(make_fleet: MakeFleet) -> None:  # fault 1
    quick = {f"quick{number}": 10.0 for number in range(2)}
    fleets = [make_fleet(name=name, database="sqlite://", terms=PATIENT) for name in ("without", "beside")]
    without = simulate(fleets[0], quick, until=130.0)
    beside = simulate(fleets[1], {**quick, "slow": 120.0}, until=130.0)
    assert beside.visits["slow"] == 1
    for name in quick:
        assert beside.visits[name] == pytest.approx(without.visits[name], rel=0.05)


@everywhere
def test_a_killed_device_is_lost_after_three_beats(make_fleet: MakeFleet, place: str) -> None:  # fault 2
    fleet = make_fleet(place)
    device = fleet.device("a")
    lease = device.lease().lease
    for _ in range(4):
        fleet.clock.advance(25.0)
        fleet.service.tick()
        assert device.beat(lease) == pytest.approx(600.0 - fleet.clock.now() + 1.7e9)
    fleet.clock.advance(30.0)
    fleet.service.tick()
    assert device.state(lease).state == "out"
    fleet.clock.advance(0.1)
    fleet.service.tick()
    assert (device.state(lease).state, device.state(lease).reason) == ("lost", "silent")
    with pytest.raises(Gone):
        device.beat(lease)


@everywhere
def test_the_same_key_joins_again_at_once(make_fleet: MakeFleet, place: str) -> None:  # fault 3
    fleet = make_fleet(place)
    device = fleet.device("a")
    first, second = device.lease().lease, device.lease().lease
    assert (device.state(first).state, device.state(first).reason) == ("lost", "joined again")
    body = changed(device.model(second), 1.0)
    with pytest.raises(Gone):
        device.send(first, body)
    device.send(second, body)
    fleet.teach()
    assert fleet.service.core.version == 1


@here
def test_a_late_joiner_is_served_at_once(make_fleet: MakeFleet, place: str) -> None:  # fault 4
    fleet = make_fleet(place)
    fleet.visit("a", 1.0)
    fleet.teach()
    grant = fleet.device("late").lease()
    assert (grant.version, grant.digest) == (1, fleet.service.core.digest)


@everywhere
@pytest.mark.parametrize("late", ["accept", "refuse"])
def test_past_the_deadline(make_fleet: MakeFleet, place: str, late: Literal["accept", "refuse"]) -> None:  # fault 5
    fleet = make_fleet(place, terms=dataclasses.replace(PATIENT, late=late))
    device = fleet.device("a")
    lease = device.lease().lease
    body = changed(device.model(lease), 1.0)
    fleet.visit("b", 2.0)
    fleet.teach()
    fleet.clock.advance(600.5)
    with pytest.raises(Gone) as gone:
        device.beat(lease)
    assert gone.value.told == {"state": "lost", "cause": "deadline", "late": late == "accept"}
    if late == "refuse":
        with pytest.raises(Gone):
            device.send(lease, body)
        assert fleet.service.apply_next() is None
        return
    fleet.service.tick()
    device.send(lease, body)
    assert fleet.teach() == {}
    taught = fleet.service.status().versions[-1]
    assert (taught.version, taught.by) == (2, ("a",))
    assert {visit.lease: visit.staleness for visit in fleet.service.status().visits}[lease] == 1


def test_a_late_return_comes_to_an_end(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(terms=dataclasses.replace(TERMS, late="accept", late_seconds=1000.0))
    device = fleet.device("a")
    lease = device.lease().lease
    body = changed(device.model(lease), 1.0)
    fleet.visit("b", 1.0)
    fleet.teach()
    fleet.clock.advance(1599.0)
    fleet.service.tick()
    assert [path.name[:8] for path in sorted(fleet.service.folder.versions.iterdir())] == ["00000000", "00000001"]
    fleet.clock.advance(2.0)
    fleet.service.tick()
    with pytest.raises(Gone):
        device.send(lease, body)
    assert [path.name[:8] for path in fleet.service.folder.versions.iterdir()] == ["00000001"]


def test_a_device_with_a_new_clone_has_given_the_old_one_up(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(terms=dataclasses.replace(TERMS, late="accept"))
    device = fleet.device("a")
    lease = device.lease().lease
    body = changed(device.model(lease), 1.0)
    fleet.clock.advance(40.0)
    fleet.service.tick()
    device.lease()
    with pytest.raises(Gone):
        device.send(lease, body)


@everywhere
def test_the_same_return_counts_once(make_fleet: MakeFleet, place: str) -> None:  # fault 9
    fleet = make_fleet(place)
    device = fleet.device("a")
    lease = device.lease().lease
    body = changed(device.model(lease), 1.0)
    for _ in range(3):
        device.send(lease, body)
    fleet.teach()
    device.send(lease, body)
    assert fleet.service.apply_next() is None
    assert (fleet.service.core.version, device.state(lease).state) == (1, "applied")
    assert device.offset(lease) == len(body)


@everywhere
def test_another_body_under_the_same_lease_is_gone(make_fleet: MakeFleet, place: str) -> None:  # fault 10
    fleet = make_fleet(place)
    device = fleet.device("a")
    lease = device.lease().lease
    model = device.model(lease)
    device.send(lease, changed(model, 1.0))
    with pytest.raises(Gone):
        device.send(lease, changed(model, 2.0))
    fleet.teach()
    with pytest.raises(Gone):
        device.send(lease, changed(model, 3.0))
    assert float(fleet.service.core.state["weight"][0, 0]) == pytest.approx(0.5, abs=0.01)


@everywhere
def test_a_restart_keeps_the_leases(make_fleet: MakeFleet, place: str) -> None:  # fault 11
    fleet = make_fleet(place)
    lease = fleet.device("a").lease().lease
    waiting = fleet.visit("b", 2.0)
    body = changed(fleet.device("a").model(lease), 1.0)
    fleet.device("a").send(lease, body, cut=200)
    fleet.close()
    fleet.clock.advance(10_000.0)
    fleet.restart()
    device = fleet.device("a")
    assert device.beat(lease) == pytest.approx(600.0)
    device.send(lease, body, offset=device.offset(lease))
    fleet.teach()
    assert (device.state(lease).state, fleet.device("b").state(waiting).state) == ("applied", "applied")
    assert fleet.service.core.version == 2
    fleet.restart()
    assert fleet.service.core.version == 2


@everywhere
def test_nobody_touches_another_ones_lease(make_fleet: MakeFleet, place: str) -> None:  # fault 17
    fleet = make_fleet(place)
    owner, other = fleet.device("owner"), fleet.device("other")
    lease = owner.lease().lease
    body = changed(owner.model(lease), 1.0)
    asked = (other.model, other.beat, other.offset, other.state, lambda known: other.send(known, body))
    for ask, known in itertools.product(asked, (lease, "0" * 32)):
        with pytest.raises(Unauthorized):
            ask(known)
    assert owner.state(lease).state == "out"
    assert owner.offset(lease) == 0


@everywhere
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_broken_line_goes_on_where_it_was(make_fleet: MakeFleet, place: str, share: float) -> None:  # fault 18
    fleet = make_fleet(place)
    device = fleet.device("a")
    lease = device.lease().lease
    model = device.model(lease)
    assert device.model(lease, offset=100) == model[100:]
    body = changed(model, 1.0)
    device.send(lease, body, cut=int(share * len(body)))
    if place != HTTPS:
        assert device.offset(lease) == int(share * len(body))
    device.send(lease, body, offset=device.offset(lease))
    assert fleet.teach() == {}
    assert fleet.service.core.version == 1


@everywhere
def test_bytes_are_counted(make_fleet: MakeFleet, place: str) -> None:  # fault 22
    fleet = make_fleet(place)
    device = fleet.device("a")
    lease = device.lease().lease
    model = device.model(lease)
    device.model(lease, offset=50)
    body = changed(model, 1.0)
    sent = len(body)
    if place != HTTPS:  # of a line that breaks, the server counts what came
        device.send(lease, body, cut=77)
        sent += 77
    device.send(lease, body)
    device.send(lease, body)  # known already, and not read
    told = fleet.service.status()
    assert (told.devices[0].bytes_down, told.devices[0].bytes_up) == (2 * len(model) - 50, sent)
    assert (told.visits[0].bytes_down, told.visits[0].bytes_up) == (2 * len(model) - 50, sent)


@pytest.mark.parametrize(
    ("seconds", "visits"), [(40.0, 40), pytest.param(300.0, 500, marks=pytest.mark.slow)], ids=["40 s", "5 min"]
)
def test_a_hundred_users_that_come_and_go(make_fleet: MakeFleet, seconds: float, visits: int) -> None:  # fault 19
    """Twice the same; a fifth of them goes away every minute."""
    users = {f"user{number:03d}": 20.0 + 7 * number % 41 for number in range(100)}
    seen = []
    for name in ("first", "second"):
        fleet = make_fleet(name=name, database="sqlite://", terms=PATIENT)
        ran = simulate(fleet, users, until=seconds, churn_per_minute=0.2, seed=3)
        seen.append((fleet.service.core.digest, ran))
    assert seen[0] == seen[1]
    assert seen[0][1].left > seconds / 60
    assert fleet.service.core.version > visits
    assert len(list(fleet.service.folder.spool.iterdir())) == 0
    assert len(list(fleet.service.folder.versions.iterdir())) <= 101


def test_only_so_many_clones_are_out(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(terms=dataclasses.replace(TERMS, max_clones=2))
    fleet.device("a").lease()
    fleet.visit("b", 1.0)
    with pytest.raises(Wait):
        fleet.device("c").lease()
    fleet.device("a").lease()  # in the place of its own
    fleet.teach()
    fleet.device("c").lease()


def test_a_device_whose_returns_wait_waits_too(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(terms=dataclasses.replace(TERMS, waiting_per_node=1))
    fleet.visit("a", 1.0)
    with pytest.raises(Wait):
        fleet.device("a").lease()
    fleet.teach()
    fleet.device("a").lease()


def test_deadlines_follow_the_device(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(terms=PATIENT)
    device = fleet.device("a")
    for seconds, window in ((100.0, 600.0), (50.0, 300.0), (1.0, 225.0)):
        grant = device.lease()
        assert grant.deadline == pytest.approx(window)
        fleet.clock.advance(seconds)
        device.send(grant.lease, changed(device.model(grant.lease), seconds))
        fleet.teach()
    lease = device.lease()
    fleet.clock.advance(lease.deadline + 1)
    fleet.service.tick()
    assert device.state(lease.lease).reason == "deadline"
    assert device.lease().deadline > lease.deadline  # it was too slow for the last one


def test_returns_teach_together(make_fleet: MakeFleet) -> None:
    terms = dataclasses.replace(TERMS, at_least=2, together=3, waiting_per_node=2)
    fleet = make_fleet(terms=terms)
    fleet.visit("a", 1.0)
    assert fleet.service.apply_next() is None
    fleet.visit("b", 4.0)
    outcome = fleet.service.apply_next()
    assert outcome is not None
    assert (outcome.version, len(outcome.applied)) == (1, 2)
    assert float(fleet.service.core.state["weight"][0, 0]) == pytest.approx(5 / 3, abs=0.01)


def test_terms_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(SettingsError, match="at_least"):
        LeaseConfig(at_least=3).check()
    with pytest.raises(SettingsError, match="deadline_floor"):
        LeaseConfig(deadline_floor=10.0, deadline_ceiling=1.0).check()


def test_a_folder_has_one_service(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    with pytest.raises(RunError, match="another service"):
        make_fleet()
    fleet.restart()


@pytest.mark.parametrize("place", [POSTGRESQL])
def test_a_postgresql_has_one_service(make_fleet: MakeFleet, place: str) -> None:
    fleet = make_fleet(place)
    with pytest.raises(RunError, match="another service"):
        make_fleet(name="elsewhere", database=URL)
    fleet.restart()
