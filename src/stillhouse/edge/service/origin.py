"""What stays the same for the life of a core, from its first start on, wherever it goes on."""

import secrets

from sqlalchemy import select, update

from stillhouse.edge.service.asking import Asking
from stillhouse.edge.service.database import Database
from stillhouse.edge.service.tables import core, origin
from stillhouse.errors import RunError


def settle_origin(database: Database, asking: Asking) -> str:
    """Keep a core to the questions of its first start; others could be images that it has learnt from with labels.

    Returns:
        the name that its store knows the core by: drawn once, and kept in the tables since they go where the core goes.

    Raises:
        RunError: other questions would be asked, or the database refuses.
    """
    with database.writing() as connection:
        row = connection.execute(select(origin)).one_or_none()
        if row is None:
            name = secrets.token_hex(16)
            connection.execute(origin.insert().values(id=1, name=name, questions=asking.digest, asked=asking.count))
            return name
        if row.questions != asking.digest:
            if connection.execute(select(core.c.id)).one_or_none() is not None:
                raise RunError(
                    f"lesson.answers.images: {asking.count} questions (sha-256 {asking.digest[:16] or 'none'}), and "
                    f"this core began with {row.asked} (sha-256 {row.questions[:16] or 'none'}) for life; "
                    "set lesson.answers, lesson.held_out and the server's images back, or begin a new core"
                )
            connection.execute(update(origin).values(questions=asking.digest, asked=asking.count))
        return str(row.name)
