"""What the service remembers beside weights: SQLite in the state folder, or any URL of SQLAlchemy."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, make_url, select
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError

from stillhouse.edge.service.tables import metadata
from stillhouse.errors import RunError, SettingsError

BUSY_SECONDS = 30.0
ADVISORY = 0x7374696C6C
"""Key of the lock that a service holds in a PostgreSQL."""
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
        self._lasting: Connection | None = None
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

    def lock(self) -> None:
        """Keep the services of other machines from a PostgreSQL until the end; a file is locked with its folder.

        Raises:
            RunError: another service is at work.
        """
        if self._engine.dialect.name != "postgresql":
            return
        self._lasting = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        if not self._lasting.execute(select(func.pg_try_advisory_lock(ADVISORY))).scalar_one():
            self.close()
            raise RunError(f"{self._where}: another service is at work here; stop it first")

    def close(self) -> None:
        """Let go of all connections."""
        if self._lasting is not None:
            self._lasting.close()
        self._engine.dispose()


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
