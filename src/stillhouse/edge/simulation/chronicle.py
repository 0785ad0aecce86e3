"""Writing down what happens in a run, and examining the core whenever it changed.

Letters: C classes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stillhouse.edge.lesson import State
from stillhouse.edge.service.clock import Clock
from stillhouse.edge.service.leases import Lease
from stillhouse.edge.simulation.people import Person
from stillhouse.edge.simulation.records import Record
from stillhouse.edge.simulation.world import Marks, World

DIGITS = 6
"""Of a second, in records."""


@dataclass
class Chronicle:
    """The records of one run, which look as docs/edge-simulation.md says.

    Args:
        clock: of the run.
        world: for the examination.
        people: all users.
        first: the core at the beginning.
    """

    clock: Clock
    world: World
    people: Sequence[Person]
    first: State
    records: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        of = self.world.room.labels.of
        self._classes = {person.name: of[person.rows].unique().tolist() for person in self.people}
        self._stamped = any(person.attack == "backdoor" for person in self.people)
        self._marks = self.world.exam.mark(self.first, self._stamped)

    def start(self, **told: object) -> None:
        """Who takes part, and how good the core is before."""
        users = [
            {
                "name": person.name,
                "images": len(person.rows),
                "classes": self._classes[person.name],
                "speed": person.speed,
                "attack": person.attack,
            }
            for person in sorted(self.people, key=lambda person: person.number)
        ]
        self.tell("start", **told, test=self._marks.accuracy, recalls=self._marks.recalls, users=users)

    def visit(self, person: Person, sent: float, lease: Lease, state: str, version: int, reason: str = "") -> None:
        """What became of a clone of `person` that left at `sent`, when the core was at `version`."""
        self.tell(
            "visit", user=person.name, sent=round(sent, DIGITS), base_version=lease.version,
            staleness=version - lease.version, state=state, reason=reason, down=lease.bytes_down, up=lease.bytes_up,
        )  # fmt: skip

    def lesson(self, core: State, version: int, people: Sequence[Person], measures: Mapping[str, object]) -> None:
        """What the core became, and by whom."""
        before, self._marks = self._marks, self.world.exam.mark(core, self._stamped)
        falls = [absent_fall(before, self._marks, self._classes[person.name]) for person in people]
        known = [fall for fall in falls if not math.isnan(fall)]
        self.tell(
            "lesson", version=version, users=[person.name for person in people], test=self._marks.accuracy,
            recalls=self._marks.recalls, absent_fall=sum(known) / len(known) if known else math.nan,
            measures=measures, backdoor=self._marks.backdoor,
        )  # fmt: skip

    def end(self, **told: object) -> None:
        """How good the core is afterwards."""
        self.tell("end", test=self._marks.accuracy, **told)

    def tell(self, kind: str, **told: object) -> None:
        """One record, of now."""
        self.records.append({"kind": kind, "time": round(self.clock.now(), DIGITS), **told})


def absent_fall(before: Marks, after: Marks, held: Sequence[int]) -> float:
    """How far recall fell in the classes that a user does not hold, their mean, 0 where it rose.

    Not a number for who holds all classes, and where the test has no image of an absent one.

    Args:
        before: marks of the core before the lesson.
        after: and after it.
        held: numbers of the classes that the user holds.
    """
    absent = [place for place in range(len(after.recalls)) if place not in held]
    if not absent:
        return math.nan
    fall = sum(before.recalls[place] - after.recalls[place] for place in absent) / len(absent)
    return fall if math.isnan(fall) else max(0.0, fall)
