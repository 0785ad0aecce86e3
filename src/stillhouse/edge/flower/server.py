"""A core learns through a Flower federation: the `ServerApp` that lends clones to SuperNodes, each at its own pace.

Leases, ledger, gate and versions are those of `Service`; Flower carries clones and returns. A node is sent a clone as
soon as what it brought has taught, and nobody else is waited for. Whoever is online for the SuperLink is alive.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid, ServerApp
from sqlalchemy import select

from stillhouse.config import Table, to_table
from stillhouse.edge.device.terms import Lease, printable
from stillhouse.edge.flower.client import CLONE, LEASE, RETURN, packed, unpacked
from stillhouse.edge.learning.opening import open_teaching
from stillhouse.edge.service.core import open_lesson, read_core
from stillhouse.edge.service.invites import invite
from stillhouse.edge.service.refusals import Gone, Refusal, Unauthorized, Wait
from stillhouse.edge.service.service import Grant, Service
from stillhouse.edge.service.serving import RETRY_SECONDS, teaching
from stillhouse.edge.service.tables import nodes
from stillhouse.edge.service.uploads import Part
from stillhouse.errors import RunError, SettingsError

POLL_SECONDS = 1.0
QUEUE_SECONDS = 3600.0
"""How long a message may lie in queues beside the time of its lease."""

app = ServerApp()


@dataclass
class Sent:
    """A clone that is at a node."""

    grant: Grant
    activated: str
    """When the node had last come online as it was sent."""
    message: str
    """Flower's name of the message; empty where no reply can come any more."""
    patience: float
    """Seconds for which the node gets no other while it is there: until its return has taught, or comes late."""
    reply: Message | None = None
    """What came back, until the service has it."""


class Federation:
    """Lends clones to the nodes of a federation, and takes them back.

    Args:
        grid: the way to the nodes.
        service: keeps the core; something else teaches it meanwhile.
        told: what nodes are told of the recipe.
        tell: told one line per event.
    """

    def __init__(self, grid: Grid, service: Service, told: Table, tell: Callable[[str], None]) -> None:
        self._grid, self._service, self._told, self._tell = grid, service, told, tell
        self._out: dict[int, Sent] = {}
        self._shut_out: set[int] = set()
        with service.database.reading() as connection:
            self._known = set(connection.execute(select(nodes.c.name)).scalars())

    def step(self) -> None:
        """Take what has come, let go of what is lost, lend a clone to whoever is there and has none."""
        online = {node.node_id: node.last_activated_at for node in self._grid.get_nodes()}
        for number, sent in list(self._out.items()):
            self._attend(number, sent, online.get(number))
        for number, activated in online.items():
            if number not in self._out:
                self._send(number, activated)
        self._service.tick()

    def _send(self, number: int, activated: str) -> None:
        node = name_of(number)
        if node not in self._known:
            invite(self._service.database, node, "", "", self._service.clock.now())  # the SuperLink knows who it is
            self._known.add(node)
        try:
            grant = self._service.lease(node)
        except Wait:
            return
        except Unauthorized as refusal:
            if number not in self._shut_out:
                self._tell(refusal.reason)
            self._shut_out.add(number)
            return
        self._shut_out.discard(number)
        clone = self._service.model(node, grant.lease).read_bytes()
        lease = json.dumps(to_table(Lease(**vars(grant), recipe=self._told)))
        content = RecordDict({LEASE: ConfigRecord({LEASE: lease}), CLONE: packed(clone)})
        seconds = grant.deadline + self._service.config.late_room + QUEUE_SECONDS
        message = Message(content, number, MessageType.TRAIN, ttl=seconds, group_id=str(grant.version))
        name = next(iter(self._grid.push_messages([message])), "")  # one at a time: all of a call lie in memory
        self._service.count(node, grant.lease, down=len(clone))
        self._out[number] = Sent(grant, activated, name, self._service.config.silent_seconds)
        self._tell(f"{node}: clone of version {grant.version}, {len(clone):,} bytes")

    def _attend(self, number: int, sent: Sent, activated: str | None) -> None:
        """See how a clone is doing.

        Args:
            number: of the node that has it.
            sent: the clone.
            activated: when the node came online; None where it is not.
        """
        node, lease = name_of(number), sent.grant.lease
        if sent.message and activated is not None:  # asked about a node that is away, Flower forgets the message
            for reply in self._grid.pull_messages([sent.message]):
                sent.message, sent.reply = "", reply
        if sent.reply is not None:
            self._take(node, lease, sent.reply)
            sent.reply = None
        if sent.message and activated == sent.activated:  # else it was away and may have begun anew: counts as silent
            with suppress(Gone):
                self._service.beat(node, lease)
        known = self._service.state(node, lease)
        if known.state != "out" and activated is not None:
            sent.patience -= POLL_SECONDS
        is_over = sent.patience <= 0 or (known.state == "lost" and not sent.message)
        if known.final or (known.state != "out" and is_over):
            del self._out[number]

    def _take(self, node: str, lease: str, reply: Message) -> None:
        if reply.has_error():
            self._tell(f"{node}: no return ({printable(reply.error.reason)})")
            return
        body = unpacked(reply.content, RETURN)
        digest = hashlib.sha256(body).hexdigest()
        try:
            upload = self._service.receive(node, lease, Part(0, len(body), digest, len(body), digest))
            if upload is not None:
                try:
                    upload.write(body)
                    upload.finish()
                finally:
                    upload.abandon()
            self._service.count(node, lease, up=len(body))
        except Refusal as refusal:
            self._tell(f"{node}: return not taken ({refusal.reason})")


def name_of(number: int) -> str:
    """What a node of Flower is called in the tables of the service."""
    return f"flower-{number}"


def serve(grid: Grid, context: Context) -> None:
    """Teach the core of a state folder through a federation.

    Args:
        grid: the way to the nodes.
        context: its run config names the folder as `state`, made by `stillhouse edge init`, and `versions`: after so
            many new versions of the core the run ends; 0 goes on until `flwr stop`.

    Raises:
        SettingsError, DataError, RunError: the folder, its settings or its images do not work.
    """
    path, versions = _read_config(context.run_config)
    known = read_core(path)
    service = Service(
        path, open_lesson(path, open_teaching), known.leases, url=known.service.database, files=known.service.files
    )
    with closing(service), teaching(service):
        federation = Federation(grid, service, known.told, tell)
        tell(f"core version {service.core.version}; status: stillhouse edge status {path}")
        last = service.core.version + versions if versions else math.inf
        while service.core.version < last:
            try:
                federation.step()
            except RunError as error:  # a disk, a database or a store that may be there again: nothing is lost
                tell(f"{error}; goes on in {RETRY_SECONDS:g} s")
                time.sleep(RETRY_SECONDS)
            time.sleep(POLL_SECONDS)
        tell(f"core version {service.core.version}; the run ends here")


def tell(sentence: str) -> None:
    """Say something in the run's log, which `flwr log` shows."""
    print(sentence, flush=True)


def _read_config(config: Mapping[str, object]) -> tuple[Path, int]:
    state, versions = config.get("state"), config.get("versions", 0)
    if not isinstance(state, str) or not Path(state).is_absolute():
        raise SettingsError(
            "--run-config: state must be the absolute path of a folder that `stillhouse edge init` made"
        )
    if isinstance(versions, bool) or not isinstance(versions, int) or versions < 0:
        raise SettingsError(f"--run-config: versions is {versions!r}; give a whole number, or 0 for no end")
    return Path(state), versions


app.main()(serve)
