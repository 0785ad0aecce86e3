"""What the service remembers beside weights, in five tables: SQLite in the state folder, or any URL of SQLAlchemy."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    func,
    make_url,
    select,
    update,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError

from stillhouse.edge.service.leases import Lease, LeaseState
from stillhouse.edge.service.refusals import Unauthorized
from stillhouse.errors import RunError, SettingsError

metadata = MetaData()

nodes = Table(
    "nodes",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("public_key", String(64), nullable=False),
    Column("state", String(16), nullable=False),  # active, revoked, quarantined
    Column("strikes", Integer, nullable=False, default=0),
    Column("visits", Integer, nullable=False, default=0),
    Column("mean_seconds", Float, nullable=False, default=0.0),  # of a visit
    Column("invited", Float, nullable=False),
    Column("last_seen", Float, nullable=False, default=0.0),
    Column("bytes_down", BigInteger, nullable=False, default=0),
    Column("bytes_up", BigInteger, nullable=False, default=0),
)

leases = Table(
    "leases",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("node", String(64), nullable=False, index=True),
    Column("version", Integer, nullable=False),
    Column("base_digest", String(64), nullable=False),
    Column("base_size", BigInteger, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("reason", Text, nullable=False, default=""),
    Column("final", Boolean, nullable=False, default=False),
    Column("granted", Float, nullable=False),
    Column("window", Float, nullable=False),
    Column("deadline", Float, nullable=False),
    Column("until", Float, nullable=False),
    Column("last_beat", Float, nullable=False),
    Column("ended", Float, nullable=False, default=0.0),
    Column("arrival", Integer, nullable=False, default=0),
    Column("digest", String(64), nullable=False, default="", index=True),
    Column("size", BigInteger, nullable=False, default=0),
    Column("bytes_down", BigInteger, nullable=False, default=0),
    Column("bytes_up", BigInteger, nullable=False, default=0),
)
_out = leases.c.state == "out"
Index("one_open_lease_per_node", leases.c.node, unique=True, sqlite_where=_out, postgresql_where=_out)

core = Table(
    "core",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # one row
    Column("version", Integer, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
)

ledger = Table(
    "ledger",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(64), nullable=False),
    Column("taught", Float, nullable=False),
    Column("by", JSON, nullable=False),  # what taught: [{lease, node, staleness}]
    Column("score", Float),  # the one to keep up
    Column("scores", JSON, nullable=False),
    Column("measures", JSON, nullable=False),
)

nonces = Table(
    "nonces",
    metadata,
    Column("node", String(64), primary_key=True),
    Column("nonce", String(32), primary_key=True),
    Column("seen", Float, nullable=False, index=True),
)

BUSY_SECONDS = 30.0
READING, NOTING = "reading", "noting"


class Database:
    """Connections to the tables; makes them where they are absent.

    Raises:
        SettingsError: the URL is not one of SQLAlchemy, or its driver is not installed.
        RunError: the database cannot be reached, read or written.
    """

    def __init__(self, url: str) -> None:
        try:
            self._engine = create_engine(url)
            self._where = make_url(url).render_as_string(hide_password=True)
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise SettingsError(
                f"service.database: {error}; write a URL of SQLAlchemy and install its driver, or leave it empty"
            ) from error
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine, "connect", _prepare_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)
        self._reader = self._engine.execution_options(kind=READING)
        self._noter = self._engine.execution_options(kind=NOTING)
        self._one_writer = threading.Lock()
        with self.writing() as connection:
            metadata.create_all(connection)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction, kept whole or not at all; those of this process take turns."""
        with self._one_writer, self._connection(self._engine) as connection:
            yield connection

    @contextmanager
    def noting(self) -> Iterator[Connection]:
        """The same for what may be forgotten when the power fails, though not when the service is killed."""
        with self._one_writer, self._connection(self._noter) as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A look that waits for nobody."""
        with self._connection(self._reader) as connection:
            yield connection

    @contextmanager
    def _connection(self, engine: Engine) -> Iterator[Connection]:
        try:
            with engine.begin() as connection:
                yield connection
        except IntegrityError:
            raise
        except DBAPIError as error:
            raise RunError(
                f"{self._where}: the database refuses ({error.orig}); free space, make it writable, or restore a copy"
            ) from error

    def close(self) -> None:
        """Let go of all connections."""
        self._engine.dispose()


def find_node(connection: Connection, name: str) -> dict[str, Any]:
    """The row of an active node, locked until the transaction ends; `Unauthorized` where there is none."""
    row = connection.execute(select(nodes).where(nodes.c.name == name).with_for_update()).one_or_none()
    if row is None or row.state != "active":
        raise Unauthorized(f"{name}: {row.state if row else 'not known here'}; ask whoever runs the server")
    return row._asdict()


def find_lease(connection: Connection, lease: str, node: str) -> Lease:
    """A lease of this node, locked until the transaction ends; `Unauthorized` where it has no such lease."""
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
            connection.execute(update(leases).where(leases.c.id == lease.id).values(final=True))
    return given_up


def next_arrival(connection: Connection) -> int:
    """The place of the next return in the order of all."""
    return int(connection.execute(select(func.coalesce(func.max(leases.c.arrival), 0))).scalar_one()) + 1


def _prepare_sqlite(connection: Any, record: object) -> None:
    connection.isolation_level = None  # transactions begin where `_begin_sqlite` says
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    kind = connection.get_execution_options().get("kind")
    if kind != READING:  # both are written to the log at once; only FULL waits until the disk has it
        connection.exec_driver_sql(f"PRAGMA synchronous = {'NORMAL' if kind == NOTING else 'FULL'}")
    connection.exec_driver_sql("BEGIN" if kind == READING else "BEGIN IMMEDIATE")
