"""A device on the wire, and everything that may go wrong there."""

import json
import re
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load

from stillhouse.edge.device import client as client_module
from stillhouse.edge.device.client import Client
from stillhouse.edge.device.device import Device
from stillhouse.edge.device.limits import Limits
from stillhouse.edge.device.privacy import PrivacyConfig
from stillhouse.edge.device.visit import alone
from stillhouse.edge.invitation import Invitation
from stillhouse.edge.learning.gate import relative_change
from stillhouse.errors import DataError, Interrupted, RunError, SettingsError
from tests.edge.device.conftest import RECIPE, Join, save_images
from tests.edge.device.wire import TEXT, Core, make_certificates, serving


class Dies(Exception):  # noqa: N818
    """A process that is no more."""


class At:
    """Does something when a step is heard."""

    def __init__(self, step: int, act: Any) -> None:
        self.step, self.act = step, act

    @contextmanager
    def __call__(self) -> Iterator["At"]:
        yield self

    def hear(self, record: Mapping[str, Any]) -> None:
        if record["kind"] == "step" and record["step"] == self.step:
            self.act()

    def close(self) -> None:
        """Nothing is open."""


class Steps:
    """Hears every step, and may die at one."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.die_at = 0

    @contextmanager
    def __call__(self) -> Iterator["Steps"]:
        yield self

    def hear(self, record: Mapping[str, Any]) -> None:
        if record["kind"] == "step":
            self.steps.append(record["step"])
            if record["step"] == self.die_at:
                dies()

    def close(self) -> None:
        """Nothing is open."""


def dies() -> None:
    raise Dies


def test_a_visit_from_lease_to_lesson(joined: Join, model: bytes) -> None:
    with joined() as wire:
        wire.device.join(visits=2)
    assert len(wire.core.returned) == 2
    learnt, clone = load(wire.core.returned[0]), load(model)
    assert {name: (value.shape, value.dtype) for name, value in learnt.items()} == {
        name: (value.shape, value.dtype) for name, value in clone.items()
    }
    assert wire.core.returned[0] != wire.core.returned[1]  # the same clone, images and recipe; another lease
    assert not torch.equal(learnt["student.output.weight"], clone["student.output.weight"])
    body = wire.core.returned[0]
    header = json.loads(body[8 : 8 + int.from_bytes(body[:8], "little")])
    assert all(set(entry) == {"dtype", "shape", "data_offsets"} for entry in header.values())  # tensors, nothing else
    assert header.keys() == clone.keys()
    assert not wire.device.visit.folder.exists()
    assert [line.split(":")[0] for line in wire.said[:5]] == [
        "lease lease-0", "clone of version 3", "trained", "sent", "clone of version 3"
    ]  # fmt: skip
    assert wire.said[4] == "clone of version 3: taught the core"


def test_cut_lines_are_taken_up_where_they_broke(joined: Join, model: bytes) -> None:
    with joined(cut_model=[0.1, 0.5, 0.9], cut_result=[0.1, 0.5, 0.9]) as wire:
        wire.device.join(visits=1)
    assert wire.core.returned == wire.kept
    for begun in (wire.core.ranges, wire.core.offsets):
        assert [round(offset / len(model), 1) for offset in begun] == [0, 0.1, 0.5, 0.9]
    assert sum("no link" in line for line in wire.said) == 2


def test_a_large_return_goes_in_parts(joined: Join, model: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    part = len(model) // 3 + 1
    monkeypatch.setattr(client_module, "PART", part)
    with joined() as wire:
        wire.device.join(visits=1)
    assert wire.core.offsets == [0, part, 2 * part]
    assert load(wire.core.returned[0]).keys() == load(model).keys()


def test_a_server_that_is_away_is_tried_again_with_longer_and_longer_waits(joined: Join) -> None:
    with joined(drop=6) as wire:
        wire.device.join(visits=1)
    assert len(wire.core.returned) == 1
    waits = wire.slept[:6]
    assert all(0.5 * 2**n <= wait <= 2**n for n, wait in enumerate(waits))
    assert sum("no link" in line for line in wire.said) == 1


def test_a_device_that_is_asked_to_wait_waits(joined: Join) -> None:
    with joined(waits=2) as wire:
        wire.device.join(visits=1)
    assert wire.slept[:2] == [7, 7]
    assert len(wire.core.returned) == 1


def waits_for_the_end(wire: Any) -> None:
    """Stay in a step until the heart heard that the lease is over."""
    for thread in threading.enumerate():
        if thread.name == "heartbeat":
            thread.join(10)


@pytest.mark.parametrize("late", [False, True])
def test_a_lease_that_ends_cancels_training(late: bool, joined: Join) -> None:
    """What was learnt is sent only if the lease takes late returns; else the device asks for another clone."""
    with joined(last_beat=1, late=late) as wire:
        wire.device.show = At(3, lambda: waits_for_the_end(wire))
        if late:
            wire.device.join(visits=1)
            assert len(wire.core.leases) == 1
            assert any(line.startswith("trained until deadline") for line in wire.said)
        else:
            wire.device.sleep = lambda _: dies()
            with pytest.raises(Dies):
                wire.device.join(visits=1)
            assert wire.said[-1] == "clone of version 3: lost because deadline"
            assert not wire.device.visit.folder.exists()
    assert len(wire.core.returned) == late


def test_a_refusal_is_told_with_its_reason(joined: Join) -> None:
    with joined(outcome=("refused", "its scores fell\x1b[2J")) as wire:
        wire.device.join(visits=1)
    assert wire.said[-1] == "clone of version 3: refused because its scores fell?[2J"


def test_a_process_that_died_while_training_goes_on_to_the_same_bits(joined: Join) -> None:
    with joined() as wire:
        wire.device.join(visits=1)
    whole = wire.core.returned
    with joined() as wire:
        wire.device.show = At(5, dies)
        with pytest.raises(Dies):
            wire.device.join(visits=1)
        heard = At(1, dies)
        wire.device.show = heard
        wire.device.join(visits=1)
    assert wire.core.returned == whole
    assert list(wire.core.leases) == ["lease-0"]
    assert "clone of version 3: goes on" in wire.said


def test_a_folder_that_was_moved_goes_on_to_the_same_bits(joined: Join, tmp_path: Path) -> None:
    with joined() as wire:
        wire.device.join(visits=1)
    whole = wire.core.returned
    with joined() as wire:
        wire.device.show = At(5, dies)
        with pytest.raises(Dies):
            wire.device.join(visits=1)
        (tmp_path / "state").rename(tmp_path / "moved")
        heard = Steps()
        moved = replace(wire.device, folder=tmp_path / "moved", show=heard, tell=wire.said.append)
        for _ in range(2):  # killed once more: what it wrote there is gone on with, too
            heard.die_at = 7 if not heard.steps else 0
            with suppress(Dies):
                moved.join(visits=1)
    assert heard.steps == [5, 6, 7, 5, 6, 7, 8]  # from the checkpoint after step 4, each time
    assert wire.core.returned == whole
    assert list(wire.core.leases) == ["lease-0"]


def test_a_signal_ends_the_process_and_not_the_visit(joined: Join) -> None:
    with joined() as wire:
        wire.device.show = At(2, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(Interrupted):
            wire.device.join(visits=1)
        wire.device.show = At(-1, dies)
        wire.device.join(visits=1)
    assert len(wire.core.returned) == len(wire.core.leases) == 1


def test_a_lease_that_was_lost_meanwhile_is_given_up(joined: Join) -> None:
    with joined() as wire:
        wire.device.show = At(5, dies)
        with pytest.raises(Dies):
            wire.device.join(visits=1)
        wire.core.leases["lease-0"].state = "lost"
        wire.core.leases["lease-0"].reason = "silent"
        wire.device.show = At(-1, dies)
        wire.device.join(visits=1)
    assert "clone of version 3: lost because silent" in wire.said
    assert list(wire.core.leases) == ["lease-0", "lease-1"]
    assert len(wire.core.returned) == 1


def test_a_finished_return_waits_on_the_disk_and_is_sent_late(joined: Join) -> None:
    with joined(late=True) as wire:

        def no_link() -> None:
            wire.core.drop = 10**6

        wire.device.show = At(8, no_link)
        wire.device.sleep = lambda _: dies()
        with pytest.raises(Dies):
            wire.device.join(visits=1)
        kept = wire.device.visit.returned.read_bytes()
        wire.core.drop = 0
        wire.core.leases["lease-0"].state = "lost"
        wire.device.sleep = wire.slept.append
        wire.device.join(visits=1)
    assert wire.core.returned == [kept]
    assert list(wire.core.leases) == ["lease-0"]


def test_a_return_whose_answer_was_lost_is_not_sent_twice(joined: Join) -> None:
    with joined() as wire:
        wire.device.tell = lambda line: dies() if line.startswith("sent") else None
        with pytest.raises(Dies):
            wire.device.join(visits=1)
        wire.device.tell = wire.said.append
        wire.device.join(visits=1)
    assert list(wire.core.leases) == ["lease-0", "lease-1"]
    assert len(wire.core.returned) == 2
    assert wire.said[0] == "clone of version 3: taught the core"


def test_minutes_end_a_visit_with_what_was_learnt_so_far(joined: Join, model: bytes) -> None:
    with joined() as wire:
        wire.device.limits = Limits(max_minutes=1e-9)
        wire.device.join(visits=1)
    (body,) = wire.core.returned
    assert body != model
    assert any("trained" in line for line in wire.said)


def test_only_idle_pauses(joined: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = iter([0.9, 0.9])
    monkeypatch.setattr("stillhouse.edge.device.limits.OthersLoad", lambda sleep: lambda: next(loads, 0.0))
    with joined() as wire:
        wire.device.limits = Limits(only_idle=True, poll_seconds=0.01)
        wire.device.join(visits=1)
    assert "paused: others use 90% of this machine" in wire.said
    assert "goes on" in wire.said
    assert len(wire.core.returned) == 1


def test_privacy_shortens_and_is_told_and_kept(joined: Join, model: bytes) -> None:
    with joined() as wire:
        wire.device.privacy = PrivacyConfig(clip=1e-3, noise=2.0)
        wire.device.join(visits=2)
    clone, learnt = load(model), [load(body) for body in wire.core.returned]
    name = "student.encoder.blocks.0.attn.qkv.weight"
    name = name if name in clone else "student.output.weight"
    far = [float((sent[name] - clone[name]).std()) for sent in learnt]
    assert far == pytest.approx([2e-3, 2e-3], rel=0.2)
    assert not torch.equal(learnt[0][name], learnt[1][name])
    told = [line for line in wire.said if line.startswith("privacy")]
    assert told == [
        "privacy: epsilon 4.38 for this visit, 4.38 in total (delta 1e-05)",
        "privacy: epsilon 4.38 for this visit, 6.57 in total (delta 1e-05)",
    ]


def test_noise_that_the_core_would_refuse_is_told_before_anything_is_learnt(joined: Join) -> None:
    with joined(lent={"largest_change": 0.5}) as wire:
        wire.device.privacy = PrivacyConfig(clip=1.0, noise=2.0)
        with pytest.raises(SettingsError, match=r"at most --clip \S+ goes with this noise") as caught:
            wire.device.join(visits=1)
        told = re.search(r"at most --clip (\S+)", str(caught.value))
        assert told is not None
        assert not (wire.device.folder / "privacy.json").exists()
        assert not wire.device.visit.run.folder.exists()
        clip = float(told[1])
        wire.device.privacy = PrivacyConfig(clip=0.9 * clip, noise=2.0)
        wire.device.join(visits=1)
    clone, sent = load(wire.core.model), load(wire.core.returned[0])
    assert relative_change(clone, sent) == pytest.approx(0.45, rel=0.1)


def test_too_little_noise_is_refused_before_anything_is_asked(joined: Join) -> None:
    with joined() as wire:
        wire.device.privacy = PrivacyConfig(clip=1.0, noise=1e-6)
        with pytest.raises(SettingsError, match="keeps nothing private"):
            wire.device.join(visits=1)
    assert not wire.core.asked


def test_a_class_that_the_core_does_not_tell_is_an_error_and_the_visit_stays(joined: Join, tmp_path: Path) -> None:
    with joined() as wire:
        before = wire.device.data
        wire.device.data = str(save_images(tmp_path / "odd", ("cat", "zebra")))
        with pytest.raises(SettingsError, match=r"data\.classes: there are images of 'zebra'"):
            wire.device.join(visits=1)
        wire.device.data = str(tmp_path / "nothing")
        with pytest.raises(DataError):
            wire.device.join(visits=1)
        wire.device.data = before
        wire.device.join(visits=1)
    assert list(wire.core.leases) == ["lease-0"]


@pytest.mark.parametrize(
    ("faults", "match"),
    [
        ({"lent": {"digest": "0" * 64}}, "not the file that was lent"),
        ({"lent": {"size": 2**40}}, "lends something odd"),
        ({"lent": {"size": 2**32}}, "no room for a clone|broke off"),
        ({"surplus": b"more"}, "sends more than"),
        ({"lent": {"lease": "../../x"}}, "lends something odd"),
        ({"lent": {"beat": 0.0}}, "lends something odd"),
        ({"lent": {"deadline": 1e300}}, "lends something odd"),
        ({"lent": {"late": "maybe"}}, "lends something odd"),
        ({"lent": {"recipe": {}}}, "lends something odd"),
        ({"model": b"\x80\x04cposix\nsystem\n."}, "cannot be read"),
    ],
)
def test_a_hostile_server_gets_an_error_and_no_weights(faults: dict[str, Any], match: str, joined: Join) -> None:
    with joined(**faults) as wire:
        wire.device.sleep = lambda _: dies()
        with pytest.raises((RunError, SettingsError, Dies)) as caught:
            wire.device.join(visits=1)
        told = " ".join([str(caught.value), *wire.said])
    assert re.search(match, told)
    assert not wire.core.returned


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"training": {"epochs": 1, "hook": "os.system"}}, "no such setting"),
        ({"method": {"name": "os.system"}}, "is unknown"),
        ({"encoder": {"name": "../../weights.bin"}}, "is unknown"),
        ({"encoder": {"name": "timm:hf-hub:some/model", "image_size": 16}}, "knows no such model"),
        ({"method": {"name": "seed"}, "teacher": {"source": "/etc/passwd"}}, "needs a teacher"),
    ],
)
def test_a_recipe_is_read_as_settings_only(change: dict[str, Any], match: str, joined: Join) -> None:
    with joined(recipe=RECIPE | change) as wire, pytest.raises(SettingsError, match=match):
        wire.device.join(visits=1)
    assert not wire.core.returned


def test_paths_in_a_recipe_are_not_followed(joined: Join, tmp_path: Path) -> None:
    wrong = {
        "data": {**RECIPE["data"], "uri": "/etc", "cache": "disk", "limit": 1},
        "start": {"source": "/etc/passwd", "digest": "0" * 64},
        "about": {"summary": "x"},
    }
    with joined(recipe={**RECIPE, **wrong}) as wire:
        wire.device.show = At(8, dies)
        with pytest.raises(Dies):
            wire.device.join(visits=1)
        recipe = wire.device.visit.run.read_recipe()
    assert recipe.data.uri == wire.device.data
    assert recipe.data.limit == 0
    assert recipe.start.source == str(tmp_path / "state/visit/clone.safetensors")


def test_two_processes_do_not_share_a_state(joined: Join) -> None:
    with joined() as wire, alone(wire.device.folder), pytest.raises(RunError, match="another process has joined"):
        wire.device.join(visits=1)
    assert not wire.core.asked


def test_another_authority_another_key_and_plain_http_are_refused(tmp_path: Path, model: bytes) -> None:
    with serving(Core(model, RECIPE), tmp_path) as invite:
        strange = replace(invite, ca=make_certificates()[0].decode())
        unknown = replace(invite, private_key=_other_key())
        for wrong, match in ((strange, "not the server of the invite"), (unknown, "does not take requests of camera")):
            client = Client(wrong)
            with pytest.raises(RunError, match=match):
                Device(client, tmp_path / "state", "nowhere").join(1)
            client.close()
        path = tmp_path / "x.invite"
        path.write_text(json.dumps({**vars(invite), "url": "http://127.0.0.1:1"}))
        with pytest.raises(SettingsError, match="only https"):
            Invitation.read(path)
        path.write_text(json.dumps(vars(invite)))
        assert Invitation.read(path) == invite
        path.write_text("{}")
        with pytest.raises(SettingsError, match="not an invite"):
            Invitation.read(path)


def _other_key() -> str:
    return Core(b"", {}).key.private_bytes(*TEXT).decode()
