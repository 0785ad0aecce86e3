"""What a simulation wrote down: a run is a start, events in the order of a virtual clock, and an end.

Times are virtual seconds, accuracies and recalls shares in [0, 1]; a class without test images has no recall. Letters:
C classes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Annotated, Literal

from pydantic import Field

from stillhouse.report.read import setting
from stillhouse.report.values import Number, Tree

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Recalls = tuple[Share | None, ...]
Count = Annotated[int, Field(ge=0)]
Fate = Literal["applied", "refused", "lost"]
OURS = "distil"
"""The rule of the house; every other one is a baseline."""
FATES: tuple[Fate, ...] = ("applied", "refused", "lost")


@dataclass(frozen=True, kw_only=True)
class User:
    """A device of the fleet; a `speed` of 2 takes twice as long as usual, and an empty `attack` is honest."""

    name: str
    images: Count = 0
    classes: tuple[int, ...] = ()
    speed: Number = math.nan
    attack: str = ""


@dataclass(frozen=True, kw_only=True)
class Start:
    """The first line: who takes part, and the core that is there before anybody taught it."""

    time: Seconds
    contestant: str
    seed: int
    test: Share
    recalls: Recalls
    users: tuple[User, ...]
    scenario: str = ""
    model_bytes: Count = 0


@dataclass(frozen=True, kw_only=True)
class Moved:
    """A user came or went; `live` counts those who are there after it."""

    kind: Literal["joined", "left"]
    time: Seconds
    user: str
    live: Count


@dataclass(frozen=True, kw_only=True)
class Visit:
    """A clone that was sent at `sent` and of which it was decided at `time`; `down` and `up` are bytes."""

    time: Seconds
    user: str
    sent: Seconds
    state: Fate
    base_version: int = 0
    staleness: Count = 0
    reason: str = ""
    down: Count = 0
    up: Count = 0


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What the core became; `absent_fall` and `backdoor` are not numbers where nothing could be measured."""

    time: Seconds
    version: int
    users: tuple[str, ...]
    test: Share
    recalls: Recalls
    absent_fall: Number = math.nan
    measures: Mapping[str, Number] = field(default_factory=dict)
    backdoor: Number = math.nan


@dataclass(frozen=True, kw_only=True)
class End:
    """The last line, without which a run is not complete."""

    time: Seconds
    test: Share
    version: int = 0
    digest: str = ""
    wall_seconds: Number = math.nan


Event = Moved | Visit | Lesson


@dataclass(frozen=True)
class Moment:
    """The core from `time` on, when `bytes` had crossed the wire both ways, those of lost visits among them."""

    time: float
    bytes: int
    test: float


@dataclass(frozen=True)
class Run:
    """One contestant with one seed, from start to end."""

    start: Start
    events: tuple[Event, ...]
    end: End

    @cached_property
    def attacks(self) -> Mapping[str, str]:
        """What every user does to the core, by name; empty for the honest ones."""
        return {user.name: user.attack for user in self.start.users}

    @cached_property
    def visits(self) -> tuple[Visit, ...]:
        """Decided visits in order."""
        return tuple(event for event in self.events if isinstance(event, Visit))

    @cached_property
    def lessons(self) -> tuple[Lesson, ...]:
        """Changes of the core in order."""
        return tuple(event for event in self.events if isinstance(event, Lesson))

    @cached_property
    def moves(self) -> tuple[Moved, ...]:
        """Users who came and went, in order."""
        return tuple(event for event in self.events if isinstance(event, Moved))

    @cached_property
    def history(self) -> tuple[Moment, ...]:
        """The first core and what it was after every lesson."""
        crossed = accumulate(event.down + event.up if isinstance(event, Visit) else 0 for event in self.events)
        taught = [
            Moment(event.time, bytes_, event.test)
            for event, bytes_ in zip(self.events, crossed, strict=True)
            if isinstance(event, Lesson)
        ]
        return (Moment(0.0, 0, self.start.test), *taught)

    @property
    def bytes(self) -> int:
        """That crossed the wire in all visits, both ways."""
        return sum(visit.down + visit.up for visit in self.visits)

    @property
    def recalls(self) -> Recalls:
        """Of every class at the end, `[C]`."""
        return self.lessons[-1].recalls if self.lessons else self.start.recalls


@dataclass(frozen=True)
class Study:
    """All runs of a folder that are complete, at least one, and the names of those that are not."""

    folder: str
    runs: tuple[Run, ...]
    missing: tuple[str, ...]
    settings: Tree

    @cached_property
    def contestants(self) -> Mapping[str, tuple[Run, ...]]:
        """Runs by contestant, by seed; the best mean accuracy at the end comes first."""
        found: dict[str, list[Run]] = {}
        for run in sorted(self.runs, key=lambda run: (run.start.contestant, run.start.seed)):
            found.setdefault(run.start.contestant, []).append(run)
        ends = {name: sum(run.end.test for run in runs) / len(runs) for name, runs in found.items()}
        return {name: tuple(found[name]) for name in sorted(found, key=lambda name: -ends[name])}

    @property
    def name(self) -> str:
        """Of the scenario, or else of the folder."""
        return self.runs[0].start.scenario or self.folder

    @property
    def summary(self) -> str:
        """What the scenario is for, in its own words; empty where it has none."""
        said = setting(self.settings, "about.summary")
        return said if isinstance(said, str) else ""

    def is_baseline(self, contestant: str) -> bool:
        """Whether the settings give this contestant a rule that is there to be compared with."""
        value: object = self.settings
        for part in ("contestants", contestant, "lesson", "rule"):
            value = value.get(part) if isinstance(value, dict) else None
        return isinstance(value, str) and value != OURS

    @cached_property
    def horizon(self) -> float:
        """The latest end of all runs: a run that is over earlier keeps its last core until then."""
        return max(run.end.time for run in self.runs)
