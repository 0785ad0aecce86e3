"""A scenario of seconds: three classes of tiny images, a perceptron, a handful of users."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from stillhouse.config import assign, merge
from stillhouse.edge.learning.teaching import Teaching
from stillhouse.edge.lesson import State
from stillhouse.edge.simulation.people import Person, gather_people
from stillhouse.edge.simulation.play import Play
from stillhouse.edge.simulation.records import Record
from stillhouse.edge.simulation.scenario import Scenario, read_scenario
from stillhouse.edge.simulation.world import Exam, World
from tests.edge.learning.rooms import make_room, private_rows

TABLE: dict[str, Any] = {
    "method": {"name": "simclrv2-finetune", "head_layer": 0},
    "users": {"number": 4},
    "time": {"delay": 5.0},
    "local": {"steps": 2, "batch_size": 16},
    "visits": {"each": 2},
    "lesson": {
        "rule": "fedasync",
        "distilling": {"epochs": 0.5, "batch_size": 16},
        "gate": {"useful": False},
        "trial": {"shares": []},
    },
    "leases": {"allowed_fall": 1.0},
    "contestants": {"fedasync": {}, "default": {"lesson": {"rule": "distil"}, "allowed_fall": 0.02}},
}


def make_scenario(settings: Mapping[str, Any] | None = None, **groups: Any) -> Scenario:
    """The tiny scenario with dotted settings and whole groups laid over it."""
    table = merge(TABLE, groups)
    for name, value in (settings or {}).items():
        table = assign(table, name, value)
    return read_scenario(table)


@cache
def make_world(users: int = 4) -> World:
    """Users hold two classes of three each, in turn; the test is what nobody holds out of the room's images."""
    room = make_room()
    hands = [private_rows(room, user % 3, (user + 1) % 3).chunk(2)[user // 3] for user in range(users)]
    rows = room.held_out
    return World(room, hands, Exam(room, room.store, rows, room.labels.of[rows]))


@cache
def first_core() -> State:
    """Weights of the core at the beginning."""
    return Teaching(make_world().room, make_scenario().lesson).start().state


def play(
    folder: Path, scenario: Scenario, name: str = "fedasync", people: Sequence[Person] | None = None, seed: int = 0
) -> list[Record]:
    """One run in a new folder."""
    torch.manual_seed(len(folder.name))  # must not matter
    world = make_world(scenario.users.number)
    people = gather_people(scenario, world.hands, seed) if people is None else people
    return Play(scenario, name, scenario.contestants[name], world, people, first_core(), seed, folder).run()


def of(records: Sequence[Record], kind: str) -> list[Record]:
    """The records of a kind."""
    return [record for record in records if record["kind"] == kind]
