"""The list of nodes that may come in, edited only on the server itself; and the file that a device is given."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import select, update

from stillhouse.edge.service.database import Database, find_leases, leases, move, nodes
from stillhouse.edge.signing import is_node_name, public_text
from stillhouse.errors import RunError, SettingsError


@dataclass(frozen=True)
class Invitation:
    """All that a device needs to join. Whoever holds it is that device: carry it there by a safe way."""

    url: str
    ca: str
    """Certificate of the authority that the server shows, as PEM."""
    node: str
    private_key: str
    """Of the node, as PEM."""

    def write(self, path: Path) -> None:
        """Write the file, for its owner alone to read.

        Raises:
            RunError: there is such a file already, or it cannot be written.
        """
        try:
            with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
                json.dump(asdict(self), file, indent=2)
        except OSError as error:
            raise RunError(f"{path}: cannot be written ({error}); remove it or choose another folder") from error


def invite(database: Database, name: str, url: str, ca: str, now: float) -> Invitation:
    """Let a new node in, or one that was shut out, with a new key and no strikes.

    Raises:
        SettingsError: the name cannot be one, or an active node has it.
    """
    if not is_node_name(name):
        raise SettingsError(f"{name!r}: not a name for a node; use up to 64 letters, digits, dots and dashes")
    key = Ed25519PrivateKey.generate()
    values = {"public_key": public_text(key), "state": "active", "strikes": 0, "invited": now}
    with database.writing() as connection:
        state = connection.execute(select(nodes.c.state).where(nodes.c.name == name)).scalar_one_or_none()
        if state == "active":
            raise SettingsError(f"{name}: invited before; revoke it first, or choose another name")
        if state is None:
            connection.execute(nodes.insert().values(name=name, **values))
        else:
            connection.execute(update(nodes).where(nodes.c.name == name).values(**values))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return Invitation(url=url, ca=ca, node=name, private_key=pem)


def revoke(database: Database, name: str, now: float) -> None:
    """Shut a node out at once: its requests are refused, its leases lost, what it sent will not teach.

    Raises:
        SettingsError: there is no such node.
    """
    with database.writing() as connection:
        changed = connection.execute(update(nodes).where(nodes.c.name == name).values(state="revoked"))
        if not changed.rowcount:
            known = connection.execute(select(nodes.c.name).order_by(nodes.c.name).limit(10)).scalars()
            raise SettingsError(f"{name}: no such node; known: {', '.join(known) or 'none'}")
        for lease in find_leases(connection, leases.c.node == name, leases.c.state == "out"):
            move(connection, lease, "lost", final=True, ended=now, reason="revoked")
        late = update(leases).where(leases.c.node == name, leases.c.state == "lost")
        connection.execute(late.values(final=True))
