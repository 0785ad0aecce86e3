"""The state of an edge service as tables for the terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stillhouse.edge.service.status import Status
from stillhouse.edge.service.words import ago, counted, numbers, size, span

NEWEST = 15


def status_tables(status: Status) -> None:
    """Print the core, every device with the state of its newest lease or why it is shut out, and the newest leases."""
    console = Console()
    scores = f"; {numbers(status.versions[-1].scores)}" if status.versions and status.versions[-1].scores else ""
    console.print(
        f"core version {status.version} ({size(status.size)}){scores}; "
        f"{counted(status.waiting, 'return')} waiting to teach",
        highlight=False,
        soft_wrap=True,
    )
    devices = _table("device", "state", "unseen", "visit", "applied", "refused", "lost", "strikes", "bytes")
    for known in status.devices:
        devices.add_row(
            known.name,
            known.doing or "new" if known.state == "active" else known.state,
            span(status.now - known.last_seen) if known.last_seen else "never",
            span(known.mean_seconds),
            *map(str, (known.applied, known.refused, known.lost, known.strikes)),
            size(known.bytes_down + known.bytes_up),
        )
    visits = _table("device", "state", "why", "version", "staleness", "sent out", folding="why")
    for visit in status.visits[:NEWEST]:
        why, when = escape(visit.reason), ago(status.now - visit.granted)
        visits.add_row(visit.node, visit.state, why, str(visit.version), str(visit.staleness), when)
    for table in (devices, visits):
        if table.rows:
            console.print(table)


def _table(*heads: str, folding: str = "device") -> Table:
    """A table of which only one column takes more than a line where the terminal is narrow."""
    table = Table(box=None, collapse_padding=True, pad_edge=False, padding=(0, 1))
    for head in heads:
        table.add_column(head, no_wrap=head != folding, overflow="fold" if head == folding else "ellipsis")
    return table
