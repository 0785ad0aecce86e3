"""A device that answers: what leaves it, what it refuses, and that weights stay."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, load_file, save

from stillhouse.edge.device.answering import answers_of, read_questions
from stillhouse.edge.device.device import Device
from stillhouse.edge.device.privacy import PrivacyConfig
from stillhouse.edge.questions import answer
from stillhouse.errors import RunError, SettingsError
from tests.edge.device.conftest import Join, Joined
from tests.edge.device.test_device import At, Dies, dies

PIXELS = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (70, 3, 16, 16), dtype=np.uint8))
QUESTIONS = save({"questions": PIXELS})


def answering(wire: Joined) -> Device:
    """The same device, told to answer."""
    return replace(wire.device, answers=True, tell=wire.said.append)


def test_only_answers_leave_a_device_that_answers(joined: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Any] = []

    def listen(*arguments: Any) -> Any:
        trained.append(arguments[0])
        return answers_of(*arguments)

    monkeypatch.setattr("stillhouse.edge.device.leaving.answers_of", listen)
    with joined(questions=QUESTIONS) as wire:
        answering(wire).join(visits=2)
    body, other = wire.core.returned
    assert body != other  # no two visits learn alike
    assert wire.core.asked.count("GET /v1/lease/lease-0/questions") == 1
    assert "GET /v1/lease/lease-1/questions" not in wire.core.asked  # they are the same, and lie there
    sent = load(other)
    assert sent.keys() == {"answers"}
    assert sent["answers"].shape == (70, 3)
    assert torch.equal(sent["answers"], answer(trained[1].eval(), PIXELS))
    assert len(body) < len(wire.core.model) / 100
    assert wire.said.count(f"questions: fetched, {len(QUESTIONS):,} bytes") == 1
    assert not wire.device.visit.folder.exists()


def test_questions_that_break_off_are_taken_up_where_they_broke(joined: Join) -> None:
    with joined(questions=QUESTIONS) as wire:
        device = answering(wire)
        fetch = device.client.fetch

        def then_cut(*arguments: Any) -> None:
            fetch(*arguments)
            wire.core.cut_model += [0.25, 0.5]

        device.client.fetch = then_cut  # type: ignore[assignment, method-assign]
        device.join(visits=1)
    assert [round(offset / len(QUESTIONS), 2) for offset in wire.core.ranges] == [0, 0, 0.25, 0.5]
    assert load(wire.core.returned[0]).keys() == {"answers"}


def test_other_questions_take_the_place_of_those_that_lie_there(joined: Join) -> None:
    with joined(questions=QUESTIONS) as wire:
        device = answering(wire)
        device.join(visits=1)
        wire.core.questions = save({"questions": PIXELS[:5]})
        device.join(visits=1)
    assert [len(load(body)["answers"]) for body in wire.core.returned] == [70, 5]


def test_where_nothing_is_asked_no_weights_are_sent(joined: Join) -> None:
    with joined() as wire, pytest.raises(RunError, match="asks no questions"):
        answering(wire).join(visits=1)
    assert not any("result" in asked for asked in wire.core.asked)


def test_weights_that_wait_to_be_sent_stay_when_the_device_is_told_to_answer(joined: Join) -> None:
    with joined(questions=QUESTIONS) as wire:
        wire.device.tell = lambda line: dies() if line.startswith("trained") else None
        with pytest.raises(Dies):
            wire.device.join(visits=1)
        kept = load_file(wire.device.visit.returned)
        device = answering(wire)
        device.show = At(1, dies)  # it has learnt already
        device.join(visits=1)
    assert list(wire.core.leases) == ["lease-0"]
    assert "answers" not in kept
    assert load(wire.core.returned[0]).keys() == {"answers"}


def test_noise_on_weights_that_are_not_sent_is_refused(joined: Join) -> None:
    with joined(questions=QUESTIONS) as wire:
        device = answering(wire)
        device.privacy = PrivacyConfig(clip=1.0, noise=2.0)
        with pytest.raises(SettingsError, match="leave one of them out"):
            device.join(visits=1)
    assert not wire.core.asked


@pytest.mark.parametrize(
    ("questions", "match"),
    [
        (b"nothing", "cannot be read"),
        (save({"other": PIXELS}), "cannot be read"),
        (save({"questions": PIXELS.float()}), "float32"),
        (save({"questions": PIXELS[:, :, :8].contiguous()}), r"\[70, 3, 8, 16\]"),
        (save({"questions": PIXELS[:0]}), r"\[0, 3, 16, 16\]"),
    ],
)
def test_odd_questions_are_an_error(questions: bytes, match: str, tmp_path: Path) -> None:
    path = tmp_path / "questions.safetensors"
    path.write_bytes(questions)
    with pytest.raises(RunError, match=match):
        read_questions(path, 16)
