"""The core and what teaches it: one return after another, from the spool into the next version.

The order of steps makes a crash at any moment harmless: validate, examine, teach a copy, write the new version
durably, one transaction that moves core, leases and ledger together, swap in memory, remove the returns. Before the
transaction nothing has happened, and the same returns are taught again, with the same result; after it all has.
"""

import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import func, select, update

from stillhouse.edge.lesson import Arrival, Decision, Lesson, State, Taught
from stillhouse.edge.service.clock import Clock
from stillhouse.edge.service.database import Database
from stillhouse.edge.service.examining import Examiner
from stillhouse.edge.service.folder import StateFolder, in_order
from stillhouse.edge.service.housekeeping import Housekeeping
from stillhouse.edge.service.leases import Lease, LeaseConfig
from stillhouse.edge.service.records import find_leases, move, strike
from stillhouse.edge.service.tables import core, leases, ledger
from stillhouse.errors import RunError

Passing = Callable[[str], None]
"""Told the name of each step of the commit order as it has been taken; what it raises stops everything there."""

log = logging.getLogger("stillhouse.edge")


@dataclass(frozen=True)
class Core:
    """The model that everybody learns for."""

    version: int
    digest: str
    """SHA-256 of its file."""
    state: State


@dataclass(frozen=True)
class Outcome:
    """What became of the returns that were looked at."""

    version: int
    """Of the core afterwards."""
    applied: tuple[str, ...] = ()
    """Leases whose return taught."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Leases whose return did not, with the reason."""


class Writer:
    """The one writer of the core."""

    def __init__(
        self,
        database: Database,
        folder: StateFolder,
        lesson: Lesson,
        config: LeaseConfig,
        clock: Clock,
        passing: Passing,
        housekeeping: Housekeeping,
    ) -> None:
        self._database, self._folder, self._lesson = database, folder, lesson
        self._config, self._clock, self._passing, self._housekeeping = config, clock, passing, housekeeping
        self._examiner = Examiner(database, folder, lesson)
        self._alone = threading.Lock()
        self.core = self._open()

    def apply_next(self) -> Outcome | None:
        """Teach the core by the returns that came first, or refuse them; None where too few wait.

        Raises:
            RunError: the disk or the database refuses; the returns go on waiting.
        """
        with self._alone:
            waiting = self._waiting()
            if len(waiting) < self._config.at_least:
                return None
            arrivals: dict[str, Arrival] = {}
            refused: dict[str, str] = {}
            for lease in waiting:
                arrival, decision = self._examiner.examine(lease, self.core.version, self.core.state)
                if arrival is not None and decision.accepted:
                    arrivals[lease.id] = arrival
                else:
                    refused[lease.id] = decision.reason
                    self._refuse([lease], decision)
            self._passing("examined")
            if arrivals:
                accepted = [lease for lease in waiting if lease.id in arrivals]
                taught, fault = self._teach(list(arrivals.values()))
                if taught is None:
                    self._refuse(accepted, Decision(accepted=False, reason=fault))
                    refused |= dict.fromkeys(arrivals, fault)
                    arrivals = {}
                else:
                    self._commit(accepted, taught)
            return Outcome(self.core.version, tuple(arrivals), refused)

    def _open(self) -> Core:
        with self._database.reading() as connection:
            row = connection.execute(select(core)).one_or_none()
        if row is not None:
            return Core(row.version, row.digest, self._folder.read_version(row.version, row.digest))
        taught = self._lesson.start()
        digest, size = self._folder.write_version(0, taught.state)
        with self._database.writing() as connection:
            connection.execute(core.insert().values(id=1, version=0, digest=digest, size=size))
            connection.execute(ledger.insert().values(**self._entry(0, digest, taught, [])))
        return Core(0, digest, in_order(taught.state))

    def _waiting(self) -> list[Lease]:
        with self._database.reading() as connection:
            return find_leases(connection, leases.c.state == "spooled")[: self._config.together]

    def _teach(self, arrivals: Sequence[Arrival]) -> tuple[Taught | None, str]:
        """The next core, or why this lesson is thrown away."""
        try:
            taught = self._lesson.teach(self.core.state, arrivals, self.core.version + 1)
        except Exception as error:  # likewise: the core stays as it is
            log.exception("version %s: the lesson failed", self.core.version + 1)
            return None, f"the lesson failed ({type(error).__name__})"
        self._passing("taught")
        shapes = {name: (value.dtype, value.shape) for name, value in taught.state.items()}
        if shapes != {name: (value.dtype, value.shape) for name, value in self.core.state.items()}:
            return None, "the lesson gave other tensors than the core has"
        if not all(bool(value.isfinite().all()) for value in taught.state.values()):
            return None, "the lesson gave weights that are not finite"
        return self._kept_up(taught)

    def _kept_up(self, taught: Taught) -> tuple[Taught | None, str]:
        if not taught.scores:
            return taught, ""
        name, score = next(iter(taught.scores.items()))
        with self._database.reading() as connection:
            best = connection.execute(select(func.max(ledger.c.score))).scalar_one()
        if best is not None and not score >= best - self._config.allowed_fall:
            return None, f"{name} would fall to {score:.4g} from {best:.4g}"
        return taught, ""

    def _commit(self, accepted: Sequence[Lease], taught: Taught) -> None:
        version = self.core.version + 1
        digest, size = self._folder.write_version(version, taught.state)
        self._passing("version written")
        now = self._clock.now()
        with self._database.writing() as connection:
            changed = connection.execute(
                update(core)
                .where(core.c.id == 1, core.c.version == version - 1)
                .values(version=version, digest=digest, size=size)
            )
            if changed.rowcount != 1:
                raise RunError(f"version {version}: another service wrote the core; let only one teach")
            for lease in accepted:
                move(connection, lease, "applied", final=True, ended=now)
            connection.execute(ledger.insert().values(**self._entry(version, digest, taught, accepted)))
            self._passing("transaction open")
        self._passing("committed")
        self.core = Core(version, digest, in_order(taught.state))
        self._passing("swapped")
        self._housekeeping.after(accepted)
        self._passing("tidied")

    def _refuse(self, refused: Sequence[Lease], decision: Decision) -> None:
        now, ended = self._clock.now(), list(refused)
        with self._database.writing() as connection:
            for lease in refused:
                move(connection, lease, "refused", final=True, ended=now, reason=decision.reason)
                if decision.hostile:
                    ended += strike(connection, lease.node, self._config.strikes, now)
        self._passing("refused")
        self._housekeeping.after(ended)

    def _entry(self, version: int, digest: str, taught: Taught, by: Sequence[Lease]) -> dict[str, object]:
        """The ledger's line about a version."""
        scores, measures = _plain(taught.scores), _plain(taught.measures)
        told = [
            {"lease": lease.id, "node": lease.node, "staleness": version - 1 - lease.version, "arrival": lease.arrival}
            for lease in by
        ]
        return {
            "version": version,
            "digest": digest,
            "taught": self._clock.now(),
            "by": told,
            "score": next(iter(scores.values()), None),
            "scores": scores,
            "measures": measures,
        }


def _plain(values: Mapping[str, float]) -> dict[str, float | None]:
    """The same as JSON knows it: what is not finite becomes null."""
    return {name: float(value) if math.isfinite(value) else None for name, value in values.items()}
