"""Whether a return may teach: what tables and files say, then its tensors, then the lesson."""

import logging

from sqlalchemy import func, select

from stillhouse.edge.lesson import Arrival, Decision, Lesson, State
from stillhouse.edge.service.asking import read_answers
from stillhouse.edge.service.database import Database
from stillhouse.edge.service.folder import StateFolder
from stillhouse.edge.service.leases import Lease
from stillhouse.edge.service.tables import leases, nodes
from stillhouse.edge.service.validation import MalformedReturnError, read_return
from stillhouse.errors import RunError
from stillhouse.files import digest_of_file

log = logging.getLogger("stillhouse.edge")


class Examiner:
    """Looks at one return after another; whatever a stranger sent, it survives.

    Args:
        database: with leases and nodes.
        folder: with returns, and the versions that were sent out.
        lesson: has the last word.
    """

    def __init__(self, database: Database, folder: StateFolder, lesson: Lesson) -> None:
        self._database, self._folder, self._lesson = database, folder, lesson
        self._asks = lesson.terms().questions is not None

    def examine(self, lease: Lease, version: int, core: State) -> tuple[Arrival | None, Decision]:
        """What a return is, and whether it may teach; None where it is not even read.

        Args:
            lease: that it came under.
            version: of the core now.
            core: its weights.

        Raises:
            RunError: the database or the store refuses.
        """
        if trouble := self._known_trouble(lease):
            return None, Decision(accepted=False, reason=trouble)
        body = self._folder.fetch(self._folder.body_file(lease.id, lease.digest))
        self._folder.fetch(self._folder.version_file(lease.version, lease.base_digest))
        if not body.exists() or digest_of_file(body) != lease.digest:
            return None, Decision(accepted=False, reason="the return was damaged on the server's disk")
        try:
            sent_now = lease.version == version
            base = core if sent_now else self._folder.read_version(lease.version, lease.base_digest)
            answers = read_answers(body) if self._asks else None
            state = read_return(body, base) if answers is None else {}
        except RunError as error:
            log.error("lease %s: %s", lease.id, error)
            return None, Decision(accepted=False, reason="the clone was damaged on the server's disk")
        except MalformedReturnError as error:
            return None, Decision(accepted=False, reason=str(error), hostile=True)
        arrival = Arrival(lease.node, lease.version, version - lease.version, state, base, answers)
        try:
            return arrival, self._lesson.examine(core, arrival)
        except Exception as error:  # whatever a stranger's weights break in there, the service goes on
            log.exception("lease %s: the lesson failed to examine a return", lease.id)
            return None, Decision(accepted=False, reason=f"could not be examined ({type(error).__name__})")

    def _known_trouble(self, lease: Lease) -> str:
        """What the tables alone say against a return; empty where nothing."""
        with self._database.reading() as connection:
            state = connection.execute(select(nodes.c.state).where(nodes.c.name == lease.node)).scalar_one()
            before = (leases.c.digest == lease.digest, leases.c.arrival < lease.arrival, leases.c.id != lease.id)
            repeated = connection.execute(select(func.count()).select_from(leases).where(*before)).scalar_one()
        if state != "active":
            return f"{lease.node} is {state}"
        if lease.digest == lease.base_digest:
            return "the clone came back untouched"
        return "the same weights came before" if repeated else ""
