"""Who the users of a run are, and what happens to them: decided by the seed, before any rule is known.

Every user has random numbers of its own, by its number, so that neither the order in which users are named nor what a
core learns changes when anything happens.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from stillhouse.edge.simulation.scenario import ChurnConfig, Scenario, TimeConfig


@dataclass(frozen=True)
class Person:
    """A user."""

    number: int
    rows: Tensor
    """Positions of its images, int64."""
    speed: float
    """How many times longer than a usual user it takes."""
    attack: str
    """What it does instead of an honest training; empty for nothing."""
    joins: float
    """When it comes, in seconds; infinite where it never does."""
    leaves: float
    """When it is gone for good, whatever it is doing then."""

    @property
    def name(self) -> str:
        """What the service calls it."""
        return f"user-{self.number:04d}"


@dataclass(frozen=True)
class Plan:
    """What is going to happen to one visit."""

    seconds: float
    """From the clone's departure to its return."""
    lost: bool
    """Whether it never comes back."""


def gather_people(scenario: Scenario, hands: Sequence[Tensor], seed: int) -> list[Person]:
    """All users that ever take part, by number.

    Args:
        scenario: the settings.
        hands: positions of the images of each.
        seed: of the run.
    """
    number, bad = len(hands), round(scenario.attackers.share * len(hands))
    roles = random.Random(f"{seed}/roles").sample(range(number), number)
    slow = set(roles[number - scenario.time.slow :]) if scenario.time.slow else set()
    kinds = scenario.attackers.kinds
    attacks = {user: kinds[place % len(kinds)] for place, user in enumerate(roles[:bad])}
    stays = [_stay(scenario.churn, seed, user) for user in range(number)]
    joins = _arrivals(scenario.churn, stays, seed)
    return [
        Person(
            number=user,
            rows=hands[user],
            speed=_speed(scenario.time, seed, user) * (scenario.time.slower if user in slow else 1.0),
            attack=attacks.get(user, ""),
            joins=joins[user],
            leaves=joins[user] + stays[user],
        )
        for user in range(number)
    ]


def plan_visit(scenario: Scenario, person: Person, seed: int, visit: int) -> Plan:
    """How one visit of a user goes, the first one being 0."""
    draw = random.Random(f"{seed}/visit/{person.number}/{visit}")
    delay = draw.expovariate(1.0) * scenario.time.delay
    steps = scenario.local.num_steps(len(person.rows))
    return Plan(steps * scenario.time.step * person.speed + delay, draw.random() < scenario.churn.lost)


def _speed(time: TimeConfig, seed: int, user: int) -> float:
    return math.exp(time.spread * random.Random(f"{seed}/speed/{user}").gauss(0.0, 1.0))


def _stay(churn: ChurnConfig, seed: int, user: int) -> float:
    """Seconds until a user leaves: the same chance at every moment."""
    if not churn.leaving:
        return math.inf
    return random.Random(f"{seed}/stay/{user}").expovariate(churn.leaving / 60.0)


def _arrivals(churn: ChurnConfig, stays: Sequence[float], seed: int) -> list[float]:
    """When each user comes: the first ones at once, then the next one whenever somebody comes and finds room."""
    room = min(churn.live or len(stays), len(stays))
    joins = [0.0] * room + [math.inf] * (len(stays) - room)
    there = list(stays[:room])
    if not churn.arriving or min(there) == math.inf:
        return joins  # nobody comes, or nobody ever makes room
    draw, moment = random.Random(f"{seed}/arrivals"), 0.0
    for newcomer in range(room, len(stays)):
        if len(there) == room:  # nobody finds room before somebody leaves, and those who tried say nothing of the next
            moment = max(moment, min(there))
        moment += draw.expovariate(churn.arriving / 60.0)
        joins[newcomer] = moment
        there = [leaves for leaves in there if leaves > moment] + [moment + stays[newcomer]]
    return joins
