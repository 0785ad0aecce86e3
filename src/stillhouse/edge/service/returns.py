"""Returns on their way in: one upload of a lease at a time, and what came whole is written down once."""

import threading

from stillhouse.edge.service.clock import Clock
from stillhouse.edge.service.database import Database
from stillhouse.edge.service.folder import StateFolder
from stillhouse.edge.service.leases import Lease, LeaseConfig
from stillhouse.edge.service.lending import Lending
from stillhouse.edge.service.records import find_lease, move, next_arrival, note_visit
from stillhouse.edge.service.refusals import Conflict, TooLarge
from stillhouse.edge.service.uploads import Part, Upload
from stillhouse.edge.service.writer import Passing


class Returns:
    """Takes what devices send back.

    Args:
        database: that remembers what came.
        folder: where it lies.
        lending: the leases that it is sent under.
        config: terms.
        clock: what time it is.
        passing: told each step that has been taken.
    """

    def __init__(
        self,
        database: Database,
        folder: StateFolder,
        lending: Lending,
        config: LeaseConfig,
        clock: Clock,
        passing: Passing,
    ) -> None:
        self._database, self._folder, self._lending = database, folder, lending
        self._config, self._clock, self._passing = config, clock, passing
        self._uploads: dict[str, Upload] = {}
        self._guard = threading.Lock()
        self.came = threading.Event()
        """Set when a return has come."""

    def offset(self, node: str, lease_id: str) -> int:
        """Bytes of a return that have come; all of them once it has come whole. `Gone` where none is taken."""
        lease = self._lending.look(node, lease_id)
        if lease.digest:
            return lease.size
        self._demand_open(lease)
        return self._lies(lease)

    def receive(self, node: str, lease_id: str, part: Part) -> Upload | None:
        """Begin to take a part; see `Service.receive`."""
        lease = self._lending.look(node, lease_id)
        if lease.digest and part.digest in ("", lease.digest):  # a part before the last says nothing of the whole
            return None
        self._demand_open(lease)
        most = self._config.max_body(lease.base_size)
        if max(part.offset + part.size, part.total) > most:
            raise TooLarge(f"a return of this clone has at most {most} bytes", most=most)
        if part.is_last and part.offset + part.size != part.total:
            raise Conflict("the last part does not end where the return does", offset=self._lies(lease))
        with self._guard:
            before = self._uploads.pop(lease.id, None)
        if before is not None:
            before.abandon()
        if part.offset > (lies := self._lies(lease)):
            raise Conflict(f"{lies} bytes have come", offset=lies)
        upload = Upload(
            self._folder.part_file(lease.id),
            self._folder.body_file(lease.id, part.digest),
            part,
            record=lambda digest, size: self._record(node, lease.id, digest, size),
            close=lambda done: self._forget(lease.id, done),
            passing=self._passing,
        )
        with self._guard:
            self._uploads[lease.id] = upload
        return upload

    def abandon(self) -> None:
        """Receive no more; what came stays."""
        for upload in list(self._uploads.values()):
            upload.abandon()

    def _demand_open(self, lease: Lease) -> None:
        if not lease.takes_return(self._clock.now()):
            raise self._lending.gone(lease)

    def _lies(self, lease: Lease) -> int:
        """Bytes of a return that lie on the disk while it is not whole."""
        path = self._folder.part_file(lease.id)
        return path.stat().st_size if path.exists() else 0

    def _record(self, node: str, lease_id: str, digest: str, size: int) -> None:
        """A return lies on the disk: let the tables know. Once they do, it will teach or be refused, come what may."""
        self._folder.keep(self._folder.body_file(lease_id, digest))
        now = self._clock.now()
        with self._database.writing() as connection:
            lease = find_lease(connection, lease_id, node)
            if lease.digest == digest:
                return
            if not lease.may_become("spooled"):
                raise self._lending.gone(lease)
            arrival = next_arrival(connection)
            move(connection, lease, "spooled", digest=digest, size=size, arrival=arrival, reason="", ended=0.0)
            note_visit(connection, node, min(now - lease.granted, self._config.deadline_ceiling))
        self._passing("recorded")
        self.came.set()

    def _forget(self, lease_id: str, upload: Upload) -> None:
        with self._guard:
            if self._uploads.get(lease_id) is upload:
                del self._uploads[lease_id]
