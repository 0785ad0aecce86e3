"""Everything that a service remembers, for tests that it remembers nothing more."""

import hashlib
from typing import Any

from sqlalchemy import select

from stillhouse.edge.service.tables import core, leases, ledger, nodes
from tests.edge.service.fleet import Fleet

Snapshot = tuple[list[Any], dict[str, str]]


def snapshot(fleet: Fleet) -> Snapshot:
    """All rows but those of nonces, and the hashes of all versions and returns.

    Without bytes and signs of life, which are written down after a request was answered.
    """
    told = [
        [column for column in table.c if column.name not in ("bytes_down", "bytes_up", "last_beat", "last_seen")]
        for table in (core, leases, ledger, nodes)
    ]
    with fleet.service.database.reading() as connection:
        rows = [tuple(row) for columns in told for row in connection.execute(select(*columns))]
    folder = fleet.service.folder
    files = (*folder.versions.iterdir(), *folder.spool.iterdir())
    return rows, {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
