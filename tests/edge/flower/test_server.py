"""What the server does about nodes that answer wrongly, late or not at all; without processes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

pytest.importorskip("flwr", reason="flwr is not installed; `make flower` has it")

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from flwr.serverapp import Grid

from stillhouse.edge.flower.client import CLONE, RETURN, WEIGHTS, packed, unpacked
from stillhouse.edge.flower.server import POLL_SECONDS, Federation, name_of, serve
from stillhouse.edge.service.invites import revoke
from stillhouse.edge.service.status import Device
from stillhouse.errors import SettingsError
from tests.edge.service.fleet import TERMS, Fleet, changed

pytestmark = pytest.mark.usefixtures("task")

NODE = 7


@dataclass
class Nodes:
    """A grid whose nodes do what the test says."""

    online: dict[int, str] = field(default_factory=lambda: {NODE: "today"})
    sent: list[Message] = field(default_factory=list)
    replies: dict[str, Message] = field(default_factory=dict)
    refuses: bool = False

    def get_nodes(self) -> Iterable[Any]:
        return [SimpleNamespace(node_id=node, last_activated_at=when) for node, when in self.online.items()]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        (message,) = messages
        if self.refuses:
            return []
        self.sent.append(message)
        message.metadata.__dict__["_message_id"] = str(len(self.sent))
        return [str(len(self.sent))]

    def pull_messages(self, names: Iterable[str]) -> list[Message]:
        (name,) = names
        return [self.replies.pop(name)] if name in self.replies else []

    def answer(self, content: RecordDict) -> None:
        """The reply to what was sent last."""
        self.replies[str(len(self.sent))] = Message(content, reply_to=self.sent[-1])

    def bring_back(self, change: float = 1.0) -> None:
        """A return of what was sent last."""
        self.answer(RecordDict({RETURN: packed(changed(unpacked(self.sent[-1].content, CLONE), change))}))


@dataclass
class World:
    """A service, the federation in front of it, and what was said."""

    fleet: Fleet
    nodes: Nodes
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        grid = cast(Grid, self.nodes)
        self.federation = Federation(grid, self.fleet.service, {"method": {"name": "none"}}, self.said.append)

    def steps(self, count: int = 1) -> None:
        for _ in range(count):
            self.federation.step()
            self.fleet.clock.advance(POLL_SECONDS)
            self.fleet.teach()

    @property
    def device(self) -> Device:
        """The node, as the tables know it."""
        (device,) = self.fleet.service.status().devices
        assert device.name == name_of(NODE)
        return device


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    fleet = Fleet(tmp_path, "in process")
    yield World(fleet, Nodes())
    fleet.close()


def test_a_return_teaches_and_the_next_clone_goes_out_at_once(world: World) -> None:
    world.steps(3)
    assert (len(world.nodes.sent), world.device.doing) == (1, "out")
    world.nodes.bring_back()
    world.steps(2)
    assert (world.device.applied, world.fleet.service.core.version) == (1, 1)
    assert [message.metadata.group_id for message in world.nodes.sent] == ["0", "1"]
    assert world.device.bytes_down == 2 * world.device.bytes_up > 0


def test_a_node_that_is_there_and_says_nothing_has_until_its_deadline(world: World) -> None:
    world.steps(30)
    assert world.device.lost == 0
    world.fleet.clock.advance(world.fleet.terms.deadline_ceiling)
    world.steps()
    assert (world.device.lost, len(world.nodes.sent)) == (1, 2), "what it still brings would not be taken"


def test_the_next_clone_waits_for_the_return_to_teach_but_not_for_long(world: World) -> None:
    world.steps()
    world.nodes.bring_back()
    patience = int(world.fleet.terms.silent_seconds / POLL_SECONDS)
    for _ in range(patience - 1):
        world.federation.step()
    assert (world.device.doing, len(world.nodes.sent)) == ("spooled", 1)
    world.federation.step()
    assert (world.device.doing, len(world.nodes.sent)) == ("out", 2)


@pytest.mark.parametrize(
    "wrong",
    [
        RecordDict({RETURN: ConfigRecord({"weights": "none"})}),
        RecordDict({RETURN: ArrayRecord({WEIGHTS: Array("uint8", (3,), "safetensors", b"abc")})}),
        RecordDict({"other": packed(b"abc")}),
    ],
)
def test_what_is_no_return_is_refused_and_counts_against_the_node(wrong: RecordDict, world: World) -> None:
    world.steps()
    world.nodes.answer(wrong)
    world.steps(2)
    assert (world.device.refused, world.device.strikes, world.fleet.service.core.version) == (1, 1, 0)


def test_a_return_that_is_too_large_is_not_taken(world: World) -> None:
    world.steps()
    world.nodes.answer(RecordDict({RETURN: packed(bytes(10**6))}))
    world.steps()
    assert "return not taken" in world.said[-1]
    assert not list(world.fleet.service.folder.spool.iterdir())
    assert_silent_then_asked_again(world)


def test_a_node_that_fails_is_asked_again_after_a_while(world: World) -> None:
    world.steps()
    world.nodes.replies["1"] = Message(Error(2, "no\x1b[31m return"), reply_to=world.nodes.sent[0])
    world.steps()
    assert world.said[-1] == f"{name_of(NODE)}: no return (no?[31m return)"
    assert_silent_then_asked_again(world)


def test_a_message_that_flower_does_not_take_is_sent_again_after_a_while(world: World) -> None:
    world.nodes.refuses = True
    world.steps()
    world.nodes.refuses = False
    assert_silent_then_asked_again(world, before=0)


def assert_silent_then_asked_again(world: World, before: int = 1) -> None:
    beats = int(world.fleet.terms.silent_seconds / POLL_SECONDS)
    world.steps(beats - 2)
    assert (len(world.nodes.sent), world.device.lost) == (before, 0)
    world.steps(5)
    assert (len(world.nodes.sent), world.device.lost) == (before + 1, 1)


def test_a_late_return_of_a_node_that_was_away_still_teaches(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, "in process", terms=replace(TERMS, late="accept"))
    world = World(fleet, Nodes())
    world.steps()
    world.nodes.online.clear()
    world.steps(60)
    assert world.device.doing == "lost"
    world.nodes.online[NODE] = "tomorrow"
    world.steps(2)
    assert len(world.nodes.sent) == 1, "its answer may be on the way"
    world.nodes.bring_back()
    world.steps()
    assert world.device.applied == 1
    fleet.close()


def test_a_node_that_began_anew_is_not_waited_for(world: World) -> None:
    world.steps()
    world.nodes.online[NODE] = "tomorrow"
    world.steps(int(2 * world.fleet.terms.silent_seconds / POLL_SECONDS) + 5)
    assert (len(world.nodes.sent), world.device.lost) == (2, 1)
    assert world.fleet.service.status().visits[-1].reason == "silent"


def test_a_node_that_is_shut_out_gets_nothing_and_is_told_of_once(world: World) -> None:
    world.steps()
    world.nodes.bring_back()
    world.steps()
    revoke(world.fleet.service.database, name_of(NODE), world.fleet.clock.now())
    world.steps(5)
    assert len(world.nodes.sent) == 1
    assert sum("revoked" in line for line in world.said) == 1


@pytest.mark.parametrize("config", [{}, {"state": "here"}, {"state": "/there", "versions": -1}, {"state": 3}])
def test_a_wrong_run_config_is_told(config: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="--run-config"):
        serve(cast(Grid, Nodes()), Context(1, 1, {}, RecordDict(), config))
