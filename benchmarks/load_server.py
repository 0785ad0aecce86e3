"""A service in a process of its own whose lesson does almost nothing, so that the service is what is measured."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from sqlalchemy import func, select

from stillhouse.edge.invitation import Invitation
from stillhouse.edge.lesson import Arrival, Decision, Lesson, State, Taught
from stillhouse.edge.service.authority import Authority
from stillhouse.edge.service.database import Database
from stillhouse.edge.service.folder import StateFolder
from stillhouse.edge.service.invites import invite
from stillhouse.edge.service.leases import LeaseConfig
from stillhouse.edge.service.rates import WebConfig
from stillhouse.edge.service.service import Service
from stillhouse.edge.service.serving import listen, running, teaching
from stillhouse.edge.service.tables import leases, nonces
from stillhouse.edge.service.web import edge_app

TICKS = 100
"""Of a second, in which /proc counts processor time."""


class Newest(Lesson):
    """The core becomes whatever came last."""

    def __init__(self, kilobytes: int) -> None:
        self._weights = {"weights": torch.zeros(kilobytes * 250)}

    def start(self) -> Taught:
        return Taught(self._weights)

    def examine(self, core: State, arrival: Arrival) -> Decision:
        return Decision(accepted=True)

    def teach(self, core: State, arrivals: Sequence[Arrival], version: int) -> Taught:
        return Taught(arrivals[-1].state)


def serve(folder: Path, kilobytes: int, devices: int, leases: LeaseConfig, web: WebConfig, line: Connection) -> None:
    """Serve and teach until told to stop."""
    torch.set_num_threads(1)
    authority = Authority.create(StateFolder(folder).authority)
    authority.issue(["localhost"])
    service = Service(folder, Newest(kilobytes), leases)
    known = [invite(service.database, f"device-{n}", "", authority.pem, time.time()) for n in range(devices)]
    app = edge_app(service, {}, web)
    with running(app, listen("127.0.0.1", 0), authority.server_context()) as url, teaching(service):
        line.send([replace(one, url=url.replace("127.0.0.1", "localhost")) for one in known])
        line.recv()
    service.close()


@dataclass(frozen=True)
class Beside:
    """A server that runs beside."""

    folder: Path
    process: int
    invitations: Sequence[Invitation]

    def processor_seconds(self) -> float:
        """That it has used so far."""
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def waiting_seconds(self) -> float:
        """That its threads were ready to run so far and others had the processors."""
        threads = Path(f"/proc/{self.process}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[1]) for thread in threads) / 1e9

    def memory(self) -> int:
        """Resident bytes."""
        lines = Path(f"/proc/{self.process}/status").read_text().splitlines()
        return 1024 * next(int(text.split()[1]) for text in lines if text.startswith("VmRSS"))

    def descriptors(self) -> int:
        """Open files and sockets."""
        return len(list(Path(f"/proc/{self.process}/fd").iterdir()))

    def files(self) -> int:
        """In the state folder."""
        return sum(path.is_file() for path in self.folder.rglob("*"))

    def database_bytes(self) -> int:
        """Of the database and its log."""
        return sum(path.stat().st_size for path in self.folder.glob("edge.db*"))

    def rows(self) -> tuple[int, int]:
        """Returns that have come to an end, and numbers used once that are remembered."""
        database = Database(StateFolder(self.folder).database_url)
        try:
            with database.reading() as connection:
                ended = select(func.count()).select_from(leases).where(leases.c.state.in_(["applied", "refused"]))
                remembered = select(func.count()).select_from(nonces)
                return connection.execute(ended).scalar_one(), connection.execute(remembered).scalar_one()
        finally:
            database.close()


@contextmanager
def server_beside(
    folder: Path,
    kilobytes: int,
    devices: int,
    leases: LeaseConfig,
    web: WebConfig = WebConfig(),  # noqa: B008 (frozen)
) -> Iterator[Beside]:
    """A server with so many devices invited, in a state folder of its own."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(folder, kilobytes, devices, leases, web, theirs))
    process.start()
    assert process.pid is not None
    try:
        yield Beside(folder, process.pid, ours.recv())
    finally:
        ours.send(False)
        process.join()
