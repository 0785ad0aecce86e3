"""What a person wants to see of a service, read from its tables; works beside a service at work, and without one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from stillhouse.edge.service.database import Database
from stillhouse.edge.service.tables import core, leases, ledger, nodes

NEWEST_LEASES = 50
NEWEST_VERSIONS = 500


@dataclass(frozen=True)
class Device:
    """A node."""

    name: str
    state: str
    """active, revoked or quarantined."""
    doing: str
    """State of its newest lease; empty before the first."""
    last_seen: float
    mean_seconds: float
    """That a visit takes; 0 before the first."""
    applied: int
    refused: int
    lost: int
    strikes: int
    bytes_down: int
    bytes_up: int


@dataclass(frozen=True)
class Visit:
    """A lease."""

    lease: str
    node: str
    state: str
    reason: str
    version: int
    staleness: int
    """Versions that the core had gone on when it taught; that it has gone on by now, where it did not."""
    granted: float
    deadline: float
    bytes_down: int
    bytes_up: int


@dataclass(frozen=True)
class Version:
    """A version of the core."""

    version: int
    taught: float
    by: tuple[str, ...]
    """Nodes."""
    score: float | None
    """The first of `scores`; None where there is none."""
    scores: Mapping[str, float | None]
    measures: Mapping[str, float | None]


@dataclass(frozen=True)
class Status:
    """Everything at one moment. Times are seconds of the server's clock."""

    now: float
    version: int
    digest: str
    size: int
    """Bytes of the core."""
    waiting: int
    """Returns that wait to teach."""
    devices: tuple[Device, ...]
    visits: tuple[Visit, ...]
    """Newest first."""
    versions: tuple[Version, ...]
    """Oldest first."""

    @property
    def score_name(self) -> str:
        """Name of the score to keep up; empty where nothing is measured."""
        return next(iter(self.versions[-1].scores), "") if self.versions else ""


def read_status(database: Database, now: float) -> Status:
    """Look into the tables."""
    with database.reading() as connection:
        current = connection.execute(select(core)).one()
        newest = connection.execute(select(leases).order_by(leases.c.granted.desc()).limit(NEWEST_LEASES)).all()
        lines = connection.execute(select(ledger).order_by(ledger.c.version.desc()).limit(NEWEST_VERSIONS)).all()
        grouped = select(leases.c.node, leases.c.state, func.count()).group_by(leases.c.node, leases.c.state)
        counts = {(node, state): count for node, state, count in connection.execute(grouped)}
        latest = select(leases.c.node, func.max(leases.c.granted).label("granted")).group_by(leases.c.node).subquery()
        newest_of_each = select(leases.c.node, leases.c.state).join(
            latest, (leases.c.node == latest.c.node) & (leases.c.granted == latest.c.granted)
        )
        doing = {node: state for node, state in connection.execute(newest_of_each)}  # noqa: C416 (rows)
        known = connection.execute(select(nodes).order_by(nodes.c.name)).all()
    staleness = {entry["lease"]: entry["staleness"] for line in lines for entry in line.by}
    return Status(
        now=now,
        version=current.version,
        digest=current.digest,
        size=current.size,
        waiting=sum(count for (_, state), count in counts.items() if state == "spooled"),
        devices=tuple(_device(row, doing, counts) for row in known),
        visits=tuple(_visit(row, staleness.get(row.id, current.version - row.version)) for row in newest),
        versions=tuple(_version(line) for line in reversed(lines)),
    )


def _device(row: Any, doing: Mapping[str, str], counts: Mapping[tuple[str, str], int]) -> Device:
    ends = {state: counts.get((row.name, state), 0) for state in ("applied", "refused", "lost")}
    return Device(
        name=row.name,
        state=row.state,
        doing=doing.get(row.name, ""),
        last_seen=row.last_seen,
        mean_seconds=row.mean_seconds,
        strikes=row.strikes,
        bytes_down=row.bytes_down,
        bytes_up=row.bytes_up,
        **ends,
    )


def _visit(row: Any, staleness: int) -> Visit:
    return Visit(
        lease=row.id,
        node=row.node,
        state=row.state,
        reason=row.reason,
        version=row.version,
        staleness=staleness,
        granted=row.granted,
        deadline=row.deadline,
        bytes_down=row.bytes_down,
        bytes_up=row.bytes_up,
    )


def _version(line: Any) -> Version:
    by = tuple(entry["node"] for entry in line.by)
    return Version(line.version, line.taught, by, line.score, line.scores, line.measures)
