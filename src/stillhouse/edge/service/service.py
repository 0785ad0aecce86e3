"""The service behind every wire: what a device may ask, and who in here answers.

It knows nothing of HTTP. Every answer follows from the tables, so a service that was killed goes on where it was.
"""

import os
import threading
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from stillhouse.edge.lesson import Lesson
from stillhouse.edge.service.asking import Asking
from stillhouse.edge.service.clock import Clock, RealClock
from stillhouse.edge.service.database import Database
from stillhouse.edge.service.folder import StateFolder
from stillhouse.edge.service.housekeeping import Housekeeping
from stillhouse.edge.service.leases import Lease, LeaseConfig
from stillhouse.edge.service.lending import Lending
from stillhouse.edge.service.origin import settle_origin
from stillhouse.edge.service.returns import Returns
from stillhouse.edge.service.status import Status, read_status
from stillhouse.edge.service.stores import open_store
from stillhouse.edge.service.uploads import Part, Upload
from stillhouse.edge.service.writer import Core, Outcome, Passing, Writer
from stillhouse.files import free_bytes


@dataclass(frozen=True)
class Grant:
    """A clone to fetch, and the terms."""

    lease: str
    version: int
    digest: str
    """SHA-256 of the model file."""
    size: int
    """Its bytes."""
    deadline: float
    """Seconds left."""
    beat: float
    """Seconds between heartbeats."""
    late: str
    """Whether a return may come after the deadline: accept or refuse."""
    largest_change: float = 0.0
    """As in `lesson.Terms`."""
    questions: str = ""
    """SHA-256 of the questions' file; empty where nothing is asked."""
    questions_size: int = 0
    """Its bytes."""


def unwatched(step: str) -> None:
    """Let every step pass."""


class Service:
    """A core, its leases and its files; opens the state folder, and goes on with what is in it.

    Args:
        folder: state folder; made where absent.
        lesson: what teaches the core.
        config: settings.
        clock: what time it is.
        url: database; the folder's own SQLite file when empty.
        passing: told each step of the commit order that has been taken.
        files: URI of a store where versions and returns are kept, too; the folder alone when empty.

    Raises:
        SettingsError: settings contradict each other, or a URL is wrong.
        RunError: folder, database or store cannot be used, the store is another core's, other questions would
            be asked than at its first start, another service is at work, or the core's file is damaged.
    """

    def __init__(
        self,
        folder: Path,
        lesson: Lesson,
        config: LeaseConfig = LeaseConfig(),  # noqa: B008 (frozen)
        clock: Clock | None = None,
        url: str = "",
        passing: Passing = unwatched,
        files: str = "",
    ) -> None:
        config.check()
        self.config, self.clock, self.folder = config, clock or RealClock(), StateFolder(folder, open_store(files))
        self.folder.make()
        with ExitStack() as opening:
            opening.callback(os.close, self.folder.lock())
            self._asking = Asking.lay_out(self.folder.questions_file, lesson.terms())
            self.database = Database(url or self.folder.database_url)
            opening.callback(self.database.close)
            self.database.lock()
            self.folder.store.claim(settle_origin(self.database, self._asking))
            housekeeping = Housekeeping(self.database, self.folder)
            self._writer = Writer(self.database, self.folder, lesson, config, self.clock, passing, housekeeping)
            self._lending = Lending(self.database, config, self.clock, housekeeping)
            self._returns = Returns(self.database, self.folder, self._lending, config, self.clock, passing)
            self._lending.begin_anew()
            housekeeping.sweep()
            self._held = opening.pop_all()

    def close(self) -> None:
        """Let go of files and connections; nothing is written."""
        self._returns.abandon()
        self._held.close()

    @property
    def returned(self) -> threading.Event:
        """Set when a return has come."""
        return self._returns.came

    @property
    def core(self) -> Core:
        """The core as it is now."""
        return self._writer.core

    def lease(self, node: str) -> Grant:
        """Send a clone of the core to a node; a lease that it had is lost.

        Raises:
            Wait: enough clones are out, or returns of this node wait to teach, or the disk is nearly full.
        """
        lease, asked = self._lending.lend(node, free_bytes(self.folder.path)), self._asking
        terms = (lease.window, self.config.beat_seconds, self.config.late)
        asks = (asked.largest_change, asked.digest, asked.size)
        return Grant(lease.id, lease.version, lease.base_digest, lease.base_size, *terms, *asks)

    def model(self, node: str, lease_id: str) -> Path:
        """The file of the clone, for reading; `Gone` where the lease is not out any more."""
        lease = self._lending.look_out(node, lease_id)
        return self.folder.fetch(self.folder.version_file(lease.version, lease.base_digest))

    def questions(self, node: str, lease_id: str) -> Path:
        """The file of the questions, for reading; `Gone` as for `model`, `Conflict` where nothing is asked."""
        self._lending.look_out(node, lease_id)
        return self._asking.file()

    def beat(self, node: str, lease_id: str) -> float:
        """Hear that the node still works: seconds left until its deadline.

        Raises:
            Gone: the lease ended; training for it is in vain, unless a late return is taken.
        """
        lease = self._lending.look_out(node, lease_id, beat=True)
        return lease.deadline - self.clock.now()

    def state(self, node: str, lease_id: str) -> Lease:
        """What became of a lease."""
        return self._lending.look(node, lease_id)

    def offset(self, node: str, lease_id: str) -> int:
        """Bytes of the return that have come; all of them once it has come whole.

        Raises:
            Gone: the lease takes no return any more.
        """
        return self._returns.offset(node, lease_id)

    def receive(self, node: str, lease_id: str, part: Part) -> Upload | None:
        """Begin to take a part of a return; None where just this return came before, and nothing need be read.

        Raises:
            Gone: the lease takes no return any more, or has another.
            TooLarge: it is larger than any return of this clone can be.
            Conflict: it does not go on where the last part ended.
        """
        return self._returns.receive(node, lease_id, part)

    def transfer(self, lease_id: str) -> AbstractContextManager[None]:
        """While bytes of a lease cross the wire, it is neither silent nor too late."""
        return self._lending.transfer(lease_id)

    def count(self, node: str, lease_id: str, down: int = 0, up: int = 0) -> None:
        """Write down how many bytes of weights crossed the wire, which is also a sign of life."""
        self._lending.count(node, lease_id, down, up)

    def tick(self) -> None:
        """Let go of leases whose time is over; called every few seconds."""
        self._lending.let_go()

    def apply_next(self) -> Outcome | None:
        """Teach the core by what waits, or refuse it; None where too little waits. See `Writer.apply_next`."""
        self.returned.clear()
        return self._writer.apply_next()

    def status(self) -> Status:
        """What a person wants to see."""
        return read_status(self.database, self.clock.now())
