"""A SuperNode learns for a core: the `ClientApp` that trains the clone in a message and answers with its weights.

What the device gives is in its `--node-config`, by the names of the options of `stillhouse edge join`: `data`, and if
wanted `state`, `max-memory`, `max-minutes`, `only-idle`, `clip` with `noise`. Nothing of it can be set from the server.
"""

import hashlib
import json
import logging
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Len
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from stillhouse.config import build
from stillhouse.edge.device.leaving import Leaving
from stillhouse.edge.device.limits import Limits, parse_size
from stillhouse.edge.device.privacy import PrivacyConfig
from stillhouse.edge.device.terms import Lease, read_lease
from stillhouse.edge.device.training import learn
from stillhouse.edge.device.visit import Visit, write_return
from stillhouse.errors import RunError, SettingsError
from stillhouse.files import write_atomically

LEASE, CLONE, RETURN = "lease", "clone", "return"
"""Records of a message."""
WEIGHTS = "weights"
"""The one array of a record: Flower sends each array by itself, in many requests."""
FLOWERS_OWN = ("partition-id", "num-partitions")
"""In the config of many SuperNodes, and of no use here."""

log = logging.getLogger("stillhouse.edge")

app = ClientApp()


def packed(content: bytes) -> ArrayRecord:
    """A safetensors file as a record."""
    return ArrayRecord({WEIGHTS: Array("uint8", (len(content),), "safetensors", content)})


def unpacked(content: RecordDict, name: str) -> bytes:
    """The file in a record of a message; nothing where the sender put something else there."""
    record = content.get(name)
    if not isinstance(record, ArrayRecord) or list(record) != [WEIGHTS]:
        return b""
    return bytes(record[WEIGHTS].data)


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a device gives; in `--node-config` with dashes, as `max-minutes=20`."""

    data: Annotated[str, Len(1)]
    """URI of its images."""
    state: str = ""
    """Folder for what is underway; one that goes away after each visit when empty."""
    max_memory: str = ""
    max_minutes: Annotated[float, Ge(0)] = 0.0
    only_idle: bool = False
    clip: Annotated[float, Ge(0)] = 0.0
    noise: Annotated[float, Ge(0)] = 0.0

    @property
    def limits(self) -> Limits:
        """What a visit may take of the machine."""
        memory = parse_size(self.max_memory) if self.max_memory else 0
        return Limits(max_bytes=memory, max_minutes=self.max_minutes, only_idle=self.only_idle)

    @property
    def privacy(self) -> PrivacyConfig | None:
        """How much may be told; None tells all that was learnt."""
        return PrivacyConfig(clip=self.clip, noise=self.noise) if self.clip else None

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Where a visit lies."""
        if self.state:
            yield Path(self.state)
            return
        with tempfile.TemporaryDirectory(prefix="stillhouse-") as temporary:
            yield Path(temporary)


def read_terms(config: Mapping[str, object]) -> Terms:
    """What a device gives, from the node config of its SuperNode.

    Raises:
        SettingsError: an option is unknown, wrong or missing.
    """
    terms = build(
        Terms,
        {name.replace("-", "_"): value for name, value in config.items() if name not in FLOWERS_OWN},
        "node-config.",
    )
    if bool(terms.clip) != bool(terms.noise):
        raise SettingsError("node-config: only one of clip and noise keeps nothing private; give both")
    if terms.privacy and not terms.state:
        raise SettingsError("node-config.state: clip and noise keep an account of what was told; name a folder for it")
    return terms


def visit(clone: bytes, lease: Lease, terms: Terms) -> bytes:
    """What goes back for a clone: its file after training, and nothing about it.

    Args:
        clone: its file.
        lease: what was lent; training ends when its seconds are over, counted from now on this machine's own clock.
        terms: what this device gives.

    Raises:
        RunError: the file is not the one that was lent.
        SettingsError, DataError, TrainingError: as of any run.
    """
    until = time.monotonic() + lease.deadline
    if hashlib.sha256(clone).hexdigest() != lease.digest:
        raise RunError(
            f"clone of version {lease.version}: it is not the file that was lent; tell the owner of the core"
        )
    with terms.folder() as folder:
        here = Visit(folder / "visit")
        here.begin(lease, time.time() + lease.deadline)
        write_atomically(here.clone, clone)
        leaving = Leaving(
            terms.privacy, answers=False, account=folder / "privacy.json", limits=terms.limits, tell=log.info
        )
        trained = learn(
            here, lease, terms.data, terms.limits, check=leaving.check_for(here, lease),
            cancelled=lambda: "its time is over" if time.monotonic() > until else "",
        )  # fmt: skip
        write_return(here, leaving.of(trained, here))
        content = here.returned.read_bytes()
        here.clear()
    return content


def train(message: Message, context: Context) -> Message:
    """Answer a clone with what it learnt here.

    Raises:
        RuntimeError: no answer can be given. Flower sends its words to the server, so they name no file and no image;
            the reason is in this machine's log.
    """
    try:
        lease = read_lease(json.loads(str(message.content[LEASE][LEASE])))
        content = visit(unpacked(message.content, CLONE), lease, read_terms(context.node_config))
    except Exception as error:  # whatever it is, its words stay here
        log.exception("no return")
        raise RuntimeError(f"no return ({type(error).__name__}); the node's own log says why") from None
    return Message(RecordDict({RETURN: packed(content)}), reply_to=message)


app.train()(train)
