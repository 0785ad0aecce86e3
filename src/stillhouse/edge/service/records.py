"""What is looked up and written down of nodes and leases, each inside a transaction of whoever asks."""

import re
from typing import Any

from sqlalchemy import Connection, func, select, update

from stillhouse.edge.service.leases import Lease, LeaseState
from stillhouse.edge.service.refusals import Unauthorized
from stillhouse.edge.service.tables import leases, nodes


def find_node(connection: Connection, name: str) -> dict[str, Any]:
    """The row of an active node, locked until the transaction ends; `Unauthorized` where there is none."""
    row = connection.execute(select(nodes).where(nodes.c.name == name).with_for_update()).one_or_none()
    if row is None or row.state != "active":
        raise Unauthorized(f"{name}: {row.state if row else 'not known here'}; ask whoever runs the server")
    return row._asdict()


def find_lease(connection: Connection, lease: str, node: str) -> Lease:
    """A lease of this node, locked until the transaction ends; `Unauthorized` where it has no such lease."""
    row = None
    if re.fullmatch("[0-9a-f]{32}", lease):  # not every text may even be asked of every database
        row = connection.execute(select(leases).where(leases.c.id == lease).with_for_update()).one_or_none()
    if row is None or row.node != node:
        raise Unauthorized(f"lease {lease[:32]}: not one of {node}")
    return Lease(**row._asdict())


def find_leases(connection: Connection, *where: Any) -> list[Lease]:
    """Leases in the order of their arrival, then of their granting."""
    rows = connection.execute(select(leases).where(*where).order_by(leases.c.arrival, leases.c.granted, leases.c.id))
    return [Lease(**row._asdict()) for row in rows]


def move(connection: Connection, lease: Lease, state: LeaseState, **changes: Any) -> None:
    """Let a lease go on to another state."""
    assert lease.may_become(state), f"{lease.state} never becomes {state}"
    changed = connection.execute(
        update(leases)
        .where(leases.c.id == lease.id, leases.c.state == lease.state, leases.c.final.is_(False))
        .values(state=state, **changes)
    )
    assert changed.rowcount == 1, f"lease {lease.id} was moved by somebody else meanwhile"


def give_up(connection: Connection, node: str, reason: str, now: float) -> list[Lease]:
    """End all that a node still has, also what might have come late; gives these leases as they were."""
    given_up = find_leases(
        connection, leases.c.node == node, leases.c.state.in_(["out", "lost"]), leases.c.final.is_(False)
    )
    for lease in given_up:
        if lease.state == "out":
            move(connection, lease, "lost", final=True, ended=now, reason=reason)
        else:
            close(connection, lease)
    return given_up


def close(connection: Connection, lease: Lease) -> None:
    """Let nothing change a lease any more."""
    connection.execute(update(leases).where(leases.c.id == lease.id).values(final=True))


def strike(connection: Connection, node: str, most: int, now: float) -> list[Lease]:
    """Count a hostile return; the node is shut out after `most` of them, and gives up the leases that come back."""
    more = update(nodes).where(nodes.c.name == node).values(strikes=nodes.c.strikes + 1)
    if connection.execute(more.returning(nodes.c.strikes)).scalar_one() < most:
        return []
    shut_out = update(nodes).where(nodes.c.name == node, nodes.c.state == "active")
    connection.execute(shut_out.values(state="quarantined"))
    return give_up(connection, node, "quarantined", now)


def note_visit(connection: Connection, node: str, seconds: float) -> None:
    """Let the node's average know how long a visit took."""
    mean = nodes.c.mean_seconds + (seconds - nodes.c.mean_seconds) / (nodes.c.visits + 1)
    connection.execute(update(nodes).where(nodes.c.name == node).values(mean_seconds=mean, visits=nodes.c.visits + 1))


def next_arrival(connection: Connection) -> int:
    """The place of the next return in the order of all."""
    return int(connection.execute(select(func.coalesce(func.max(leases.c.arrival), 0))).scalar_one()) + 1
