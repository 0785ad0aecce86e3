"""The list of nodes that may come in, edited only on the server itself."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import select, update

from stillhouse.edge.invitation import Invitation
from stillhouse.edge.service.database import Database
from stillhouse.edge.service.records import give_up
from stillhouse.edge.service.tables import nodes
from stillhouse.edge.signing import is_node_name, public_text
from stillhouse.errors import SettingsError


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
        give_up(connection, name, "revoked", now)
