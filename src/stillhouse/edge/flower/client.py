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

from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from stillhouse.edge.device.limits import Limits, parse_size
from stillhouse.edge.device.privacy import PrivacyConfig
from stillhouse.edge.device.terms import Lease, read_lease
from stillhouse.edge.device.visit import PrivacyAccount, Visit, blurred, learn, write_return
from stillhouse.errors import RunError, SettingsError
from stillhouse.files import write_atomically

LEASE, CLONE, RETURN = "lease", "clone", "return"
"""Records of a message."""
WEIGHTS = "weights"
"""The one array of a record: Flower sends each array by itself, in many requests."""
OPTIONS = ("data", "state", "max-memory", "max-minutes", "only-idle", "clip", "noise")
FLOWERS_OWN = ("partition-id", "num-partitions")

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


@dataclass(frozen=True)
class Terms:
    """What a device gives, from its node config.

    Args:
        config: `--node-config` of the SuperNode.

    Raises:
        SettingsError: an option is unknown, wrong or missing.
    """

    config: Mapping[str, object]

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.config) - {*OPTIONS, *FLOWERS_OWN}):
            raise SettingsError(f"--node-config: {unknown[0]} is not known; known are {', '.join(OPTIONS)}")
        if not self._text("data"):
            raise SettingsError("--node-config: names no images; add data=\"/path/to/images\"")
        if bool(self._number("clip")) != bool(self._number("noise")):
            raise SettingsError("--node-config: only one of clip and noise keeps nothing private; give both")
        if self.privacy and not self._text("state"):
            raise SettingsError(
                "--node-config: clip and noise keep an account of what was told; add state=\"/path/to/a/folder\""
            )

    @property
    def data(self) -> str:
        """URI of the images."""
        return self._text("data")

    @property
    def limits(self) -> Limits:
        """What a visit may take of the machine."""
        memory = self._text("max-memory")
        return Limits(
            max_bytes=parse_size(memory) if memory else 0,
            max_minutes=self._number("max-minutes"),
            only_idle=bool(self.config.get("only-idle", False)),
        )

    @property
    def privacy(self) -> PrivacyConfig | None:
        """How much may be told; None tells all that was learnt."""
        clip = self._number("clip")
        return PrivacyConfig(clip=clip, noise=self._number("noise")) if clip else None

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Where a visit lies; one that goes away afterwards unless `state` names it."""
        if state := self._text("state"):
            yield Path(state)
            return
        with tempfile.TemporaryDirectory(prefix="stillhouse-") as temporary:
            yield Path(temporary)

    def _text(self, name: str) -> str:
        return str(self.config.get(name, ""))

    def _number(self, name: str) -> float:
        value = self.config.get(name, 0.0)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
            raise SettingsError(f"--node-config: {name} is {value!r}; give a number that is 0 or more")
        return float(value)


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
        raise RunError(f"clone of version {lease.version}: it is not the file that was lent; tell the owner of the core")
    with terms.folder() as folder:
        here = Visit(folder / "visit")
        here.begin(lease, time.time() + lease.deadline)
        write_atomically(here.clone, clone)
        learnt, telling = learn(
            here, lease, terms.data, terms.limits,
            cancelled=lambda: "its time is over" if time.monotonic() > until else "",
        )  # fmt: skip
        if terms.privacy:
            PrivacyAccount(folder / "privacy.json").spend(terms.privacy)
            learnt = blurred(here, learnt, telling, terms.privacy)
        write_return(here, learnt)
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
        content = visit(unpacked(message.content, CLONE), lease, Terms(context.node_config))
    except Exception as error:  # whatever it is, its words stay here
        log.exception("no return")
        raise RuntimeError(f"no return ({type(error).__name__}); the node's own log says why") from None
    return Message(RecordDict({RETURN: packed(content)}), reply_to=message)


app.train()(train)
