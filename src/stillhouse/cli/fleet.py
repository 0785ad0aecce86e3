"""The state of an edge service as tables for the terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stillhouse.edge.service.status import Status
from stillhouse.edge.service.words import ago, numbers, size, span

NEWEST = 15


def status_tables(status: Status) -> None:
    """Print the core, every device and the newest leases."""
    console = Console()
    scores = f"; {numbers(status.versions[-1].scores)}" if status.versions and status.versions[-1].scores else ""
    console.print(
        f"core version {status.version} ({size(status.size)}){scores}; {status.waiting} returns wait to teach",
        highlight=False,
        soft_wrap=True,
    )
    devices = Table("device", "state", "lease", "last seen", "visit", "applied", "refused", "lost", "strikes", "bytes")
    for known in status.devices:
        devices.add_row(
            known.name,
            known.state,
            known.doing,
            ago(status.now - known.last_seen) if known.last_seen else "never",
            span(known.mean_seconds),
            *map(str, (known.applied, known.refused, known.lost, known.strikes)),
            f"{size(known.bytes_down)} down, {size(known.bytes_up)} up",
        )
    visits = Table("device", "lease", "why", "from version", "staleness", "sent out")
    for visit in status.visits[:NEWEST]:
        why, when = escape(visit.reason), ago(status.now - visit.granted)
        visits.add_row(visit.node, visit.state, why, str(visit.version), str(visit.staleness), when)
    for table in (devices, visits):
        table.box = None
        if table.rows:
            console.print(table)
