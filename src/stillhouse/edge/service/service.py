"""The service behind every wire: what a device may ask, and what becomes of its lease.

It knows nothing of HTTP. Every answer follows from the tables, so a service that was killed goes on where it was.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, delete, select, update

from stillhouse.edge.lesson import Lesson
from stillhouse.edge.service.asking import Asking
from stillhouse.edge.service.clock import Clock, RealClock
from stillhouse.edge.service.database import (
    Database,
    core,
    find_lease,
    find_leases,
    leases,
    move,
    next_arrival,
    nodes,
    nonces,
)
from stillhouse.edge.service.door import NONCE_SECONDS
from stillhouse.edge.service.folder import StateFolder
from stillhouse.edge.service.granting import grant
from stillhouse.edge.service.leases import Lease, LeaseConfig
from stillhouse.edge.service.refusals import Conflict, Gone, TooLarge
from stillhouse.edge.service.status import Status, read_status
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

    Raises:
        SettingsError: settings contradict each other, or the URL is wrong.
        RunError: the folder or the database cannot be used, another service is at work, or the core's file is damaged.
    """

    def __init__(
        self,
        folder: Path,
        lesson: Lesson,
        config: LeaseConfig = LeaseConfig(),  # noqa: B008 (frozen)
        clock: Clock | None = None,
        url: str = "",
        passing: Passing = unwatched,
    ) -> None:
        config.check()
        self.config, self.clock, self.folder = config, clock or RealClock(), StateFolder(folder)
        self._passing = passing
        self._transfers: dict[str, int] = {}
        self._uploads: dict[str, Upload] = {}
        self._guard = threading.Lock()
        self.returned = threading.Event()
        """Set when a return has come."""
        self.folder.make()
        with ExitStack() as opening:
            opening.callback(os.close, self.folder.lock())
            self._asking = Asking.lay_out(self.folder.questions_file, lesson.terms())
            self.database = Database(url or self.folder.database_url)
            opening.callback(self.database.close)
            self._writer = Writer(self.database, self.folder, lesson, config, self.clock, passing)
            self._go_on()
            self._held = opening.pop_all()

    def close(self) -> None:
        """Let go of files and connections; nothing is written."""
        for upload in list(self._uploads.values()):
            upload.abandon()
        self._held.close()

    @property
    def core(self) -> Core:
        """The core as it is now."""
        return self._writer.core

    def lease(self, node: str) -> Grant:
        """Send a clone of the core to a node; a lease that it had is lost.

        Raises:
            Wait: enough clones are out, or returns of this node wait to teach, or the disk is nearly full.
        """
        free = free_bytes(self.folder.path)
        with self.database.writing() as connection:
            lease, given_up = grant(connection, node, self.config, free, self.clock.now())
        self._end(given_up)
        asked = self._asking
        terms = (
            lease.window,
            self.config.beat_seconds,
            self.config.late,
            asked.largest_change,
            asked.digest,
            asked.size,
        )
        return Grant(lease.id, lease.version, lease.base_digest, lease.base_size, *terms)

    def model(self, node: str, lease_id: str) -> Path:
        """The file of the clone, for reading; `Gone` where the lease is not out any more."""
        lease = self._look(node, lease_id)
        self._demand_out(lease)
        return self.folder.version_file(lease.version)

    def questions(self, node: str, lease_id: str) -> Path:
        """The file of the questions, for reading; `Gone` as for `model`, `Conflict` where nothing is asked."""
        self._demand_out(self._look(node, lease_id))
        return self._asking.file()

    def beat(self, node: str, lease_id: str) -> float:
        """Hear that the node still works: seconds left until its deadline.

        Raises:
            Gone: the lease ended; training for it is in vain, unless a late return is taken.
        """
        lease = self._look(node, lease_id, beat=True)
        self._demand_out(lease)
        return lease.deadline - self.clock.now()

    def state(self, node: str, lease_id: str) -> Lease:
        """What became of a lease."""
        return self._look(node, lease_id)

    def offset(self, node: str, lease_id: str) -> int:
        """Bytes of the return that have come; all of them once it has come whole.

        Raises:
            Gone: the lease takes no return any more.
        """
        lease = self._look(node, lease_id)
        if lease.digest:
            return lease.size
        self._demand_open(lease)
        return self._came(lease)

    def receive(self, node: str, lease_id: str, part: Part) -> Upload | None:
        """Begin to take a part of a return; None where just this return came before, and nothing need be read.

        Raises:
            Gone: the lease takes no return any more, or has another.
            TooLarge: it is larger than any return of this clone can be.
            Conflict: it does not go on where the last part ended.
        """
        lease = self._look(node, lease_id)
        if lease.digest and part.digest in ("", lease.digest):  # a part before the last says nothing of the whole
            return None
        self._demand_open(lease)
        most = self.config.max_body(lease.base_size)
        if max(part.offset + part.size, part.total) > most:
            raise TooLarge(f"a return of this clone has at most {most} bytes", most=most)
        if part.is_last and part.offset + part.size != part.total:
            raise Conflict("the last part does not end where the return does", offset=self._came(lease))
        with self._guard:
            before = self._uploads.pop(lease.id, None)
        if before is not None:
            before.abandon()
        if part.offset > (came := self._came(lease)):
            raise Conflict(f"{came} bytes have come", offset=came)
        upload = Upload(
            self.folder.part_file(lease.id),
            self.folder.body_file(lease.id, part.digest),
            part,
            record=lambda digest, size: self._record(node, lease.id, digest, size),
            close=lambda done: self._forget(lease.id, done),
            passing=self._passing,
        )
        with self._guard:
            self._uploads[lease.id] = upload
        return upload

    @contextmanager
    def transfer(self, lease_id: str) -> Iterator[None]:
        """While bytes of a lease cross the wire, it is neither silent nor too late."""
        with self._guard:
            self._transfers[lease_id] = self._transfers.get(lease_id, 0) + 1
        try:
            yield
        finally:
            with self._guard:
                self._transfers[lease_id] -= 1
                if not self._transfers[lease_id]:
                    del self._transfers[lease_id]

    def count(self, node: str, lease_id: str, down: int = 0, up: int = 0) -> None:
        """Write down how many bytes of weights crossed the wire, which is also a sign of life."""
        now = self.clock.now()
        with self.database.noting() as connection:
            connection.execute(
                update(leases)
                .where(leases.c.id == lease_id)
                .values(last_beat=now, bytes_down=leases.c.bytes_down + down, bytes_up=leases.c.bytes_up + up)
            )
            connection.execute(
                update(nodes)
                .where(nodes.c.name == node)
                .values(bytes_down=nodes.c.bytes_down + down, bytes_up=nodes.c.bytes_up + up)
            )

    def tick(self) -> None:
        """Let go of leases whose time is over; called every few seconds."""
        now = self.clock.now()
        with self.database.writing() as connection:
            silent = leases.c.last_beat < now - self.config.silent_seconds
            due = find_leases(connection, leases.c.state == "out", silent | (leases.c.deadline < now))
            for lease in due:
                self._expire(connection, lease, now)
            over = find_leases(connection, leases.c.state == "lost", _open(), leases.c.until < now)
            for lease in over:
                connection.execute(update(leases).where(leases.c.id == lease.id).values(final=True))
            connection.execute(delete(nonces).where(nonces.c.seen < now - NONCE_SECONDS))
        self._end([*due, *over])

    def apply_next(self) -> Outcome | None:
        """Teach the core by what waits, or refuse it; None where too little waits. See `Writer.apply_next`."""
        self.returned.clear()
        return self._writer.apply_next()

    def status(self) -> Status:
        """What a person wants to see."""
        return read_status(self.database, self.clock.now())

    def _look(self, node: str, lease_id: str, *, beat: bool = False) -> Lease:
        """A lease as it is at this moment, lost if it is overdue; `beat` notes a sign of life."""
        now = self.clock.now()
        with self.database.noting() as connection:
            lease = self._expire(connection, find_lease(connection, lease_id, node), now)
            if beat and lease.state == "out":
                connection.execute(update(leases).where(leases.c.id == lease.id).values(last_beat=now))
                lease = replace(lease, last_beat=now)
        return lease

    def _expire(self, connection: Connection, lease: Lease, now: float) -> Lease:
        """The lease, lost if it is overdue."""
        reason = "" if lease.id in self._transfers else lease.overdue(now, self.config.silent_seconds)
        if not reason:
            return lease
        final = lease.until <= now
        move(connection, lease, "lost", reason=reason, ended=now, final=final)
        if reason == "deadline":  # it takes at least so long; the next window is longer
            slow = update(nodes).where(nodes.c.name == lease.node, nodes.c.mean_seconds < lease.window)
            connection.execute(slow.values(mean_seconds=lease.window, visits=nodes.c.visits + 1))
        return replace(lease, state="lost", reason=reason, ended=now, final=final)

    def _came(self, lease: Lease) -> int:
        """Bytes of a return that lie on the disk while it is not whole."""
        path = self.folder.part_file(lease.id)
        return path.stat().st_size if path.exists() else 0

    def _demand_out(self, lease: Lease) -> None:
        if lease.state != "out":
            raise self._gone(lease)

    def _demand_open(self, lease: Lease) -> None:
        if not lease.takes_return(self.clock.now()):
            raise self._gone(lease)

    def _gone(self, lease: Lease) -> Gone:
        told = f"{lease.state}, {lease.reason}" if lease.reason else lease.state
        late = lease.takes_return(self.clock.now())
        return Gone(f"lease {lease.id}: {told}", state=lease.state, cause=lease.reason, late=late)

    def _record(self, node: str, lease_id: str, digest: str, size: int) -> None:
        """A return lies on the disk: let the tables know. Once they do, it will teach or be refused, come what may."""
        now = self.clock.now()
        with self.database.writing() as connection:
            lease = find_lease(connection, lease_id, node)
            if lease.digest == digest:
                return
            if not lease.may_become("spooled"):
                raise self._gone(lease)
            arrival = next_arrival(connection)
            move(connection, lease, "spooled", digest=digest, size=size, arrival=arrival, reason="", ended=0.0)
            seconds = min(now - lease.granted, self.config.deadline_ceiling)
            mean = nodes.c.mean_seconds
            connection.execute(
                update(nodes)
                .where(nodes.c.name == node)
                .values(mean_seconds=mean + (seconds - mean) / (nodes.c.visits + 1), visits=nodes.c.visits + 1)
            )
        self._passing("recorded")
        self.returned.set()

    def _forget(self, lease_id: str, upload: Upload) -> None:
        with self._guard:
            if self._uploads.get(lease_id) is upload:
                del self._uploads[lease_id]

    def _go_on(self) -> None:
        """After a start: every open lease gets one fresh window, and what a crash left is swept away."""
        now = self.clock.now()
        with self.database.writing() as connection:
            fresh = now + leases.c.window
            connection.execute(
                update(leases)
                .where(leases.c.state == "out")
                .values(last_beat=now, deadline=fresh, until=fresh + self.config.late_room)
            )
            current = connection.execute(select(core.c.version)).scalar_one()
            alive = find_leases(connection, _open())
        kept = {self.folder.version_file(version) for version in {current, *(lease.version for lease in alive)}}
        kept |= {self.folder.body_file(lease.id, lease.digest) for lease in alive if lease.state == "spooled"}
        kept |= {self.folder.part_file(lease.id) for lease in alive}
        self.folder.sweep(kept)

    def _end(self, ended: list[Lease]) -> None:
        """Remove the files of those of these leases that are final."""
        if not ended:
            return
        with self.database.reading() as connection:
            final = find_leases(connection, leases.c.id.in_([lease.id for lease in ended]), leases.c.final.is_(True))
        if final:
            self._writer.tidy(final)


def _open() -> ColumnElement[bool]:
    return leases.c.final.is_(False)
