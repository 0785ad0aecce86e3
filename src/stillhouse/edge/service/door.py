"""Who may come in: a request is known by its signature, and served once."""

from collections.abc import Mapping

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from stillhouse.edge.service.clock import Clock
from stillhouse.edge.service.database import Database
from stillhouse.edge.service.refusals import Unauthorized
from stillhouse.edge.service.tables import nodes, nonces
from stillhouse.edge.signing import NODE, NONCE, TIME, read_public, verify, well_formed

SKEW_SECONDS = 300.0
"""How far a device's clock may be off."""
NONCE_SECONDS = 2 * SKEW_SECONDS + 60.0
"""How long a nonce is remembered: longer than a request with it could be taken."""


class Door:
    """Looks at every request before anything else does.

    Args:
        database: with the nodes that were invited.
        clock: what time it is.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock

    def admit(self, method: str, path: str, headers: Mapping[str, str]) -> str:
        """The name of the node that signed a request.

        Args:
            method: of the request.
            path: with its query.
            headers: by their names in lower case.

        Raises:
            Unauthorized: it is not signed, by an unknown or shut out node or another key, too old or too new, or was
                served before. An unknown name and a wrong key are answered alike.
        """
        if not well_formed(headers):
            raise Unauthorized("the request is not signed; send the five x-stillhouse headers")
        now, node = self._clock.now(), headers[NODE]
        if abs(now - float(headers[TIME])) > SKEW_SECONDS:
            raise Unauthorized(f"the device's clock is off by more than {SKEW_SECONDS:g} s; set it", now=now)
        try:
            with self._database.noting() as connection:
                row = connection.execute(select(nodes.c.public_key, nodes.c.state).where(nodes.c.name == node)).first()
                if row is None or not verify(read_public(row.public_key), method, path, headers):
                    raise Unauthorized(f"{node}: not known here, or signed with another key; ask for an invitation")
                if row.state != "active":
                    raise Unauthorized(f"{node}: {row.state}; ask whoever runs the server")
                connection.execute(nonces.insert().values(node=node, nonce=headers[NONCE], seen=now))
                connection.execute(update(nodes).where(nodes.c.name == node).values(last_seen=now))
        except IntegrityError as error:
            raise Unauthorized("this request came before; sign a new one") from error
        return node
