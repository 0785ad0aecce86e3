"""What a node gives, what it answers, and what it keeps to itself."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load

pytest.importorskip("flwr", reason="flwr is not installed; `make flower` has it")

from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict

from stillhouse.config import to_table
from stillhouse.edge.device.limits import Limits
from stillhouse.edge.device.terms import Lease
from stillhouse.edge.flower.client import CLONE, LEASE, RETURN, app, packed, read_terms, unpacked
from stillhouse.errors import SettingsError
from tests.edge.device.conftest import RECIPE, cache, images, model

__all__ = ["cache", "images", "model"]

pytestmark = pytest.mark.usefixtures("task")


def lent(model: bytes, **changes: Any) -> Lease:
    lease = Lease(
        lease="a", version=3, digest=hashlib.sha256(model).hexdigest(), size=len(model), deadline=600, beat=10,
        late="accept", recipe=RECIPE,
    )  # fmt: skip
    return replace(lease, **changes)


def ask(model: bytes, lease: Lease, **config: Any) -> Message:
    content = RecordDict({LEASE: ConfigRecord({LEASE: json.dumps(to_table(lease))}), CLONE: packed(model)})
    message = Message(content, 7, MessageType.TRAIN)
    return app(message, Context(1, 7, config, RecordDict(), {}))


def test_a_clone_comes_back_changed_and_alone(images: Path, model: bytes) -> None:
    reply = ask(model, lent(model), data=str(images))
    assert list(reply.content) == [RETURN]
    before, after = load(model), load(unpacked(reply.content, RETURN))
    assert before.keys() == after.keys()
    assert any(not before[name].equal(after[name]) for name in before)


def test_training_ends_when_its_time_is_over(images: Path, model: bytes) -> None:
    longer = {**RECIPE, "training": {**RECIPE["training"], "epochs": 100_000}}
    assert unpacked(ask(model, lent(model, recipe=longer, deadline=0.5), data=str(images)).content, RETURN)


def test_an_account_is_kept_of_what_was_told(images: Path, model: bytes, tmp_path: Path) -> None:
    for visits in (1, 2):
        ask(model, lent(model), data=str(images), state=str(tmp_path / "node"), clip=1.0, noise=2.0)
        assert json.loads((tmp_path / "node/privacy.json").read_text())["visits"] == visits
    assert [path.name for path in (tmp_path / "node").iterdir()] == ["privacy.json"]


def test_why_there_is_no_return_stays_here(
    images: Path, model: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = tmp_path / "secret"
    with pytest.raises(RuntimeError) as raised:
        ask(model, lent(model), data=str(secret))
    assert "secret" not in str(raised.value)
    assert "secret" in caplog.text
    with pytest.raises(RuntimeError, match="RunError"):
        ask(model, lent(model, digest="0" * 64), data=str(images))


def test_node_config_says_what_a_device_gives() -> None:
    assert read_terms({"data": "x", "partition-id": 1}).limits == Limits()
    terms = read_terms({"data": "x", "max-memory": "2GiB", "max-minutes": 3, "only-idle": True, "state": "y"})
    assert terms.limits == Limits(max_bytes=2**31, max_minutes=3.0, only_idle=True)
    assert terms.privacy is None


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, "node-config.data: field required"),
        ({"data": ""}, "node-config.data"),
        ({"data": "x", "dta": 1}, "did you mean node-config.data"),
        ({"data": "x", "clip": 1.0, "state": "y"}, "give both"),
        ({"data": "x", "clip": 1.0, "noise": 1.0}, "name a folder"),
        ({"data": "x", "max-minutes": "much"}, "node-config.max_minutes"),
        ({"data": "x", "max-minutes": -1}, "node-config.max_minutes"),
    ],
)
def test_a_wrong_node_config_is_told(config: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        read_terms(config)
