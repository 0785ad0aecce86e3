"""One run: the real service, and users that act on it when a virtual clock says so.

What is due first happens first. When users come, go, lose a clone and take how long follows from `people`; the rule
that is tried only decides what the core becomes.
"""

import heapq
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import safetensors.torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from sqlalchemy import select

from stillhouse.edge.learning.teaching import Teaching
from stillhouse.edge.lesson import State
from stillhouse.edge.service.clock import VirtualClock
from stillhouse.edge.service.door import Door
from stillhouse.edge.service.inprocess import InProcess
from stillhouse.edge.service.invites import invite
from stillhouse.edge.service.leases import Lease, LeaseConfig
from stillhouse.edge.service.records import find_leases
from stillhouse.edge.service.refusals import Gone, Unauthorized, Wait
from stillhouse.edge.service.service import Service
from stillhouse.edge.service.tables import leases, ledger
from stillhouse.edge.service.writer import Outcome
from stillhouse.edge.simulation.chronicle import Chronicle
from stillhouse.edge.simulation.people import Person, plan_visit
from stillhouse.edge.simulation.records import Record
from stillhouse.edge.simulation.scenario import Contestant, Scenario
from stillhouse.edge.simulation.studying import study
from stillhouse.edge.simulation.world import World
from stillhouse.errors import TrainingError

BEATS_IN_TIME = 0.9
"""Of the time after which a device counts as silent: as seldom as a working user says that it works."""
SERVER, USER, CLOCK = range(3)
"""Who goes first where several are due at once; users then go by their number."""


@dataclass
class Underway:
    """A clone that is out."""

    person: Person
    lease: str
    clone: bytes
    visit: int
    sent: float
    returned: bool = False
    """Whether it came back, and waits for the server."""
    given_up: bool = False
    """Whether the user knows that nobody wants it any more."""


@dataclass
class Play:
    """One contestant and one seed.

    Args:
        scenario: the settings.
        name: of the contestant.
        contestant: how the core is taught.
        world: images, users' hands, examination.
        people: users, in the order in which they are let in.
        first: weights of the core at the beginning.
        seed: of the run.
        folder: for the service's state; made where absent.
    """

    scenario: Scenario
    name: str
    contestant: Contestant
    world: World
    people: Sequence[Person]
    first: State
    seed: int
    folder: Path
    _events: list[tuple[float, int, int, int, bool, Callable[[], None]]] = field(default_factory=list)
    _count: int = 0
    _work: int = 0
    """Events to come that can still change a core."""
    _devices: dict[int, InProcess] = field(default_factory=dict)
    _out: dict[str, Underway] = field(default_factory=dict)
    """Visits of which nothing is written yet, by lease."""
    _held: dict[int, Underway] = field(default_factory=dict)
    """The last visit of each user."""
    _visits: Counter[int] = field(default_factory=Counter)
    _returned: Counter[int] = field(default_factory=Counter)
    """Returns of each user, and attempts that were given up."""
    _decided: int = 0
    _there: set[int] = field(default_factory=set)
    _teaching: bool = False

    def run(self) -> list[Record]:
        """Play until it is over.

        Returns:
            The records, from `start` to `end`.
        """
        began = time.perf_counter()
        self._clock = VirtualClock()
        self._chronicle = Chronicle(self._clock, self.world, self.people, self.first)
        teaching = Teaching(self.world.room, self.contestant.lesson, self.first)
        self._service = Service(self.folder, teaching, self._terms, self._clock)
        try:
            self._begin()
            while self._events and not self._over():
                moment, _, _, _, works, act = heapq.heappop(self._events)
                self._work -= works
                self._clock.advance(max(0.0, moment - self._clock.now()))
                act()
            core = self._service.core
        finally:
            self._service.close()
        self._chronicle.end(version=core.version, digest=core.digest, wall_seconds=time.perf_counter() - began)
        return self._chronicle.records

    @cached_property
    def _terms(self) -> LeaseConfig:
        """The scenario's terms, under which so many returns may come together."""
        terms, waiting, fall = self.scenario.leases, self.contestant.waiting, self.contestant.allowed_fall
        return replace(
            terms, at_least=waiting, together=waiting, waiting_per_node=max(terms.waiting_per_node, waiting),
            max_clones=max(terms.max_clones, waiting), allowed_fall=terms.allowed_fall if fall == "same" else fall,
        )  # fmt: skip

    def _begin(self) -> None:
        size = self._service.folder.version_file(0, self._service.core.digest).stat().st_size
        self._chronicle.start(contestant=self.name, seed=self.seed, scenario=self.scenario.about.name, model_bytes=size)
        door = Door(self._service.database, self._clock)
        for person in self.people:
            letter = invite(self._service.database, person.name, "", "", self._clock.now())
            key = load_pem_private_key(letter.private_key.encode(), None)
            assert isinstance(key, Ed25519PrivateKey)
            self._devices[person.number] = InProcess(self._service, door, person.name, key)
            if person.joins < math.inf:
                self._at(person.joins, USER, person.number, partial(self._join, person))
        self._at(self._terms.beat_seconds, CLOCK, 0, self._tick, works=False)

    # what users do

    def _join(self, person: Person) -> None:
        self._there.add(person.number)
        self._chronicle.tell("joined", user=person.name, live=len(self._there))
        if person.leaves < math.inf:
            self._at(person.leaves, USER, person.number, partial(self._leave, person), works=False)
        self._ask(person)

    def _leave(self, person: Person) -> None:
        if person.number in self._there:
            self._there.remove(person.number)
            self._chronicle.tell("left", user=person.name, live=len(self._there))

    def _ask(self, person: Person) -> None:
        """Borrow a clone, unless the user is gone or has returned enough."""
        each = self.scenario.visits.each
        if person.number not in self._there or (each and self._returned[person.number] >= each):
            return
        device = self._devices[person.number]
        try:
            grant = device.lease()
        except Wait as later:
            self._later(later.retry_after, person, partial(self._ask, person))
            return
        except Unauthorized:
            self._leave(person)
            return
        if person.number in self._held and self._held[person.number].lease in self._out:
            self._settle_lost()
        out = Underway(person, grant.lease, device.model(grant.lease), self._visits[person.number], self._clock.now())
        self._visits[person.number] += 1
        self._out[grant.lease] = self._held[person.number] = out
        plan = plan_visit(self.scenario, person, self.seed, out.visit)
        if plan.lost:
            self._later(plan.seconds, person, partial(self._ask, person))
            return
        self._beat_later(out, out.sent + plan.seconds)
        self._at(out.sent + plan.seconds, USER, person.number, partial(self._return, out))

    def _beat_later(self, out: Underway, until: float) -> None:
        moment = self._clock.now() + BEATS_IN_TIME * self._terms.silent_seconds
        if moment < until:
            self._at(moment, USER, out.person.number, partial(self._beat, out, until))

    def _beat(self, out: Underway, until: float) -> None:
        """Say that one still works, and go on doing so."""
        if self._wanted(out):
            self._beat_later(out, until)

    def _wanted(self, out: Underway) -> bool:
        """Whether the user is there, and the server would take its clone; where it would not, asks for another."""
        if out.given_up or out.person.number not in self._there:
            return False
        try:
            self._devices[out.person.number].beat(out.lease)
        except Unauthorized:
            out.given_up = True
            self._leave(out.person)
        except Gone as gone:
            if not gone.told["late"]:
                self._give_up(out)
                self._settle_lost()
                self._ask(out.person)
        return not out.given_up

    def _give_up(self, out: Underway) -> None:
        """Nothing comes of it, and yet the attempt counts, or it might never end."""
        out.given_up = True
        self._returned[out.person.number] += 1
        self._decided += 1

    def _return(self, out: Underway) -> None:
        """Train, which takes no virtual time any more, and give back."""
        if not self._wanted(out):
            return
        person, pull = out.person, self.contestant.proximal
        local = self.scenario.local if pull == "same" else replace(self.scenario.local, proximal=pull)
        room = self.world.room
        seed = room.seed_of(1_000_000 * (person.number + 1) + out.visit)
        sent = safetensors.torch.load(out.clone)
        try:
            taught = study(room, person.rows, {name: sent[name] for name in self.first}, local, seed, person.attack)
            self._devices[person.number].send(out.lease, safetensors.torch.save(dict(taught)))
            out.returned = True
            self._returned[person.number] += 1
        except TrainingError:  # there is nothing to give back
            self._give_up(out)
        self._hear()
        self._ask(person)

    # what the server does

    def _hear(self) -> None:
        """Let what waits teach: at once, or one lesson after the other where lessons take time."""
        if not self.scenario.time.lesson:
            while (outcome := self._service.apply_next()) is not None:
                self._settle(outcome)
        elif not self._teaching and self._num_returned() >= self.contestant.waiting:
            self._teaching = True
            self._at(self._clock.now() + self.scenario.time.lesson, SERVER, 0, self._finish_lesson)

    def _finish_lesson(self) -> None:
        self._teaching = False
        outcome = self._service.apply_next()
        if outcome is not None:
            self._settle(outcome)
            self._hear()

    def _settle(self, outcome: Outcome) -> None:
        """Write down what became of returns, which were all held against the core before the lesson."""
        before = outcome.version - bool(outcome.applied)
        for lease, reason in outcome.refused.items():
            self._tell(self._out.pop(lease), self._read(lease), "refused", before, reason)
        taught = [self._out.pop(lease) for lease in outcome.applied]
        for out in taught:
            self._tell(out, self._read(out.lease), "applied", before)
        if taught:
            with self._service.database.reading() as connection:
                told = select(ledger.c.measures).where(ledger.c.version == outcome.version)
                measures = connection.execute(told).scalar_one()
            people = [out.person for out in taught]
            self._chronicle.lesson(self._service.core.state, outcome.version, people, measures)
        if outcome.refused:
            self._settle_lost()  # whoever was shut out for what came back
        self._decided += len(outcome.refused) + len(taught)

    def _tick(self) -> None:
        """What the service does every few seconds: let go of leases whose time is over."""
        self._service.tick()
        self._settle_lost()
        self._at(self._clock.now() + self._terms.beat_seconds, CLOCK, 0, self._tick, works=False)

    def _settle_lost(self) -> None:
        """Write down visits whose end nobody waits for any more."""
        with self._service.database.reading() as connection:
            lost = find_leases(connection, leases.c.state == "lost", leases.c.id.in_(self._out))
        known = [(self._out[lease.id], lease) for lease in lost]
        for out, lease in sorted(known, key=lambda pair: pair[0].person.number):
            if lease.final or self._never_returns(out):
                del self._out[out.lease]
                self._tell(out, lease, "lost", self._service.core.version, lease.reason)

    def _never_returns(self, out: Underway) -> bool:
        plan = plan_visit(self.scenario, out.person, self.seed, out.visit)
        return out.given_up or plan.lost or out.person.leaves < out.sent + plan.seconds

    def _num_returned(self) -> int:
        return sum(out.returned for out in self._out.values())

    def _read(self, lease: str) -> Lease:
        with self._service.database.reading() as connection:
            (known,) = find_leases(connection, leases.c.id == lease)
        return known

    def _tell(self, out: Underway, lease: Lease, state: str, version: int, reason: str = "") -> None:
        self._chronicle.visit(out.person, out.sent, lease, state, version, reason)

    # the clock

    def _over(self) -> bool:
        total = self.scenario.visits.total
        waits_for_none = not self._work and self._num_returned() == len(self._out)
        return waits_for_none or bool(total and self._decided >= total)

    def _later(self, seconds: float, person: Person, act: Callable[[], None]) -> None:
        self._at(self._clock.now() + seconds, USER, person.number, act)

    def _at(self, moment: float, rank: int, number: int, act: Callable[[], None], *, works: bool = True) -> None:
        self._count += 1
        self._work += works
        heapq.heappush(self._events, (moment, rank, number, self._count, works, act))
