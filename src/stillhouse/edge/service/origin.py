"""What stays the same for the life of a core, from its first start on, wherever it goes on."""

import secrets

from sqlalchemy import select

from stillhouse.edge.service.database import Database
from stillhouse.edge.service.tables import origin


def name_core(database: Database) -> str:
    """The name that its store knows the core by: drawn once, and kept in the tables since they go where the core goes.

    Raises:
        RunError: the database refuses.
    """
    with database.writing() as connection:
        row = connection.execute(select(origin)).one_or_none()
        if row is not None:
            return str(row.name)
        name = secrets.token_hex(16)
        connection.execute(origin.insert().values(id=1, name=name))
        return name
