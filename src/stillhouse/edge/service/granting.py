"""Who gets a clone now, and who waits."""

import secrets

from sqlalchemy import ColumnElement, Connection, func, select

from stillhouse.edge.service.leases import Lease, LeaseConfig
from stillhouse.edge.service.records import find_node, give_up
from stillhouse.edge.service.refusals import Wait
from stillhouse.edge.service.tables import core, leases

CLONES_OF_ROOM = 4
"""How many returns the disk must have room for before another clone goes out."""
FULL_SECONDS = 60.0


def grant(connection: Connection, node: str, config: LeaseConfig, free: int, now: float) -> tuple[Lease, list[Lease]]:
    """Lend a node a clone of the core; what it had is given up.

    Args:
        connection: inside a transaction.
        node: its name.
        config: terms.
        free: bytes free on the disk.
        now: seconds of the server's clock.

    Returns:
        the new lease, and the old ones that are final now.

    Raises:
        Unauthorized: the node is not known, or shut out.
        Wait: enough clones are out, or returns of this node wait to teach, or the disk is nearly full.
    """
    history = find_node(connection, node)
    current = connection.execute(select(core).with_for_update()).one()
    if free < CLONES_OF_ROOM * config.max_body(current.size):
        raise Wait("the server's disk is nearly full", FULL_SECONDS)
    _check_room(connection, node, config)
    given_up = give_up(connection, node, "joined again", now)
    window = config.window(history["visits"], history["mean_seconds"])
    lease = Lease(
        id=secrets.token_hex(16),
        node=node,
        version=current.version,
        base_digest=current.digest,
        base_size=current.size,
        state="out",
        granted=now,
        window=window,
        deadline=now + window,
        until=now + window + config.late_room,
        last_beat=now,
    )
    connection.execute(leases.insert().values(**vars(lease)))
    return lease, given_up


def _check_room(connection: Connection, node: str, config: LeaseConfig) -> None:
    """Raise `Wait` where a clone more would be too many; the one that the node has out would make room for it."""
    waiting, own = leases.c.state == "spooled", leases.c.node == node
    if _count(connection, waiting, own) >= config.waiting_per_node:
        raise Wait(f"{node}: earlier returns wait to teach", config.beat_seconds)
    if _count(connection, waiting | ((leases.c.state == "out") & ~own)) >= config.max_clones:
        raise Wait(f"{config.max_clones} clones are out or wait to teach", config.beat_seconds)


def _count(connection: Connection, *where: ColumnElement[bool]) -> int:
    return int(connection.execute(select(func.count()).select_from(leases).where(*where)).scalar_one())
