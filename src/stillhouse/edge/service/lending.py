"""Leases as they stand: lent, kept alive by beats and bytes, and let go when their time is over."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from sqlalchemy import Connection, delete, update

from stillhouse.edge.service.clock import Clock
from stillhouse.edge.service.database import Database
from stillhouse.edge.service.door import NONCE_SECONDS
from stillhouse.edge.service.granting import grant
from stillhouse.edge.service.housekeeping import Housekeeping
from stillhouse.edge.service.leases import Lease, LeaseConfig
from stillhouse.edge.service.records import close, find_lease, find_leases, move
from stillhouse.edge.service.refusals import Gone
from stillhouse.edge.service.tables import leases, nodes, nonces


class Lending:
    """Who has a clone, and for how long.

    Args:
        database: with the leases.
        config: terms.
        clock: what time it is.
        housekeeping: told which leases have ended.
    """

    def __init__(self, database: Database, config: LeaseConfig, clock: Clock, housekeeping: Housekeeping) -> None:
        self._database, self._config, self._clock, self._housekeeping = database, config, clock, housekeeping
        self._transfers: dict[str, int] = {}
        self._guard = threading.Lock()

    def lend(self, node: str, free: int) -> Lease:
        """Lend a clone of the core; what the node had is given up. Arguments and errors as of `grant`."""
        with self._database.writing() as connection:
            lease, given_up = grant(connection, node, self._config, free, self._clock.now())
        self._housekeeping.after(given_up)
        return lease

    def look(self, node: str, lease_id: str, *, beat: bool = False) -> Lease:
        """A lease as it is at this moment, lost if it is overdue; `beat` notes a sign of life."""
        now = self._clock.now()
        with self._database.noting() as connection:
            lease = self._expire(connection, find_lease(connection, lease_id, node), now)
            if beat and lease.state == "out":
                connection.execute(update(leases).where(leases.c.id == lease.id).values(last_beat=now))
                lease = replace(lease, last_beat=now)
        return lease

    def look_out(self, node: str, lease_id: str, *, beat: bool = False) -> Lease:
        """The same; `Gone` where the lease is not out any more."""
        lease = self.look(node, lease_id, beat=beat)
        if lease.state != "out":
            raise self.gone(lease)
        return lease

    def gone(self, lease: Lease) -> Gone:
        """What the device is told whose lease has ended."""
        told = f"{lease.state}, {lease.reason}" if lease.reason else lease.state
        late = lease.takes_return(self._clock.now())
        return Gone(f"lease {lease.id}: {told}", state=lease.state, cause=lease.reason, late=late)

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
        now = self._clock.now()
        with self._database.noting() as connection:
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

    def let_go(self) -> None:
        """End the leases whose time is over, and forget the nonces that could not come again."""
        now = self._clock.now()
        with self._database.writing() as connection:
            silent = leases.c.last_beat < now - self._config.silent_seconds
            due = find_leases(connection, leases.c.state == "out", silent | (leases.c.deadline < now))
            for lease in due:
                self._expire(connection, lease, now)
            waited_for = leases.c.final.is_(False)
            over = find_leases(connection, leases.c.state == "lost", waited_for, leases.c.until < now)
            for lease in over:
                close(connection, lease)
            connection.execute(delete(nonces).where(nonces.c.seen < now - NONCE_SECONDS))
        self._housekeeping.after([*due, *over])

    def begin_anew(self) -> None:
        """After a start of the service every lease that is out gets one fresh window."""
        now = self._clock.now()
        fresh = now + leases.c.window
        with self._database.writing() as connection:
            connection.execute(
                update(leases)
                .where(leases.c.state == "out")
                .values(last_beat=now, deadline=fresh, until=fresh + self._config.late_room)
            )

    def _expire(self, connection: Connection, lease: Lease, now: float) -> Lease:
        """The lease, lost if it is overdue."""
        reason = "" if lease.id in self._transfers else lease.overdue(now, self._config.silent_seconds)
        if not reason:
            return lease
        final = lease.until <= now
        move(connection, lease, "lost", reason=reason, ended=now, final=final)
        if reason == "deadline":  # it takes at least so long; the next window is longer
            slow = update(nodes).where(nodes.c.name == lease.node, nodes.c.mean_seconds < lease.window)
            connection.execute(slow.values(mean_seconds=lease.window, visits=nodes.c.visits + 1))
        return replace(lease, state="lost", reason=reason, ended=now, final=final)
