"""Files that nobody needs any more: of leases that have ended, of old versions, and what a crash left."""

import logging
from collections.abc import Sequence

from sqlalchemy import select

from stillhouse.edge.service.database import Database
from stillhouse.edge.service.folder import StateFolder
from stillhouse.edge.service.leases import Lease
from stillhouse.edge.service.records import find_leases
from stillhouse.edge.service.tables import core, leases
from stillhouse.errors import RunError

log = logging.getLogger("stillhouse.edge")


class Housekeeping:
    """Removes files once the tables say that they are over.

    Args:
        database: what is still needed.
        folder: where the files lie.
    """

    def __init__(self, database: Database, folder: StateFolder) -> None:
        self._database, self._folder = database, folder

    def after(self, ended: Sequence[Lease]) -> None:
        """Remove the returns of those of these leases that are final, and versions that no lease needs any more."""
        if not ended:
            return
        with self._database.reading() as connection:
            these = leases.c.id.in_([lease.id for lease in ended])
            final = find_leases(connection, these, leases.c.final.is_(True))
            below = connection.execute(select(core.c.version)).scalar_one()
            needed = connection.execute(select(leases.c.version).where(leases.c.final.is_(False)).distinct())
            kept = set(needed.scalars())
        try:
            for lease in final:
                self._folder.part_file(lease.id).unlink(missing_ok=True)
                if lease.digest:
                    self._folder.remove(self._folder.body_file(lease.id, lease.digest))
            if final:
                self._folder.drop_versions(below, kept)
        except RunError as error:
            log.error("%s; what is left over is swept at the next start", error)

    def sweep(self) -> None:
        """Remove all that no open lease and not the core needs, and let the store have the rest, but for parts.

        While nothing else is at work in the folder.
        """
        with self._database.reading() as connection:
            current = connection.execute(select(core)).one()
            alive = find_leases(connection, leases.c.final.is_(False))
        kept = {self._folder.version_file(current.version, current.digest)}
        kept |= {self._folder.version_file(lease.version, lease.base_digest) for lease in alive}
        kept |= {self._folder.body_file(lease.id, lease.digest) for lease in alive if lease.state == "spooled"}
        self._folder.complete(kept)
        self._folder.sweep(kept | {self._folder.part_file(lease.id) for lease in alive})
