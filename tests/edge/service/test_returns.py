"""What is not taken: returns that are no clones, that are not finite, that an honest device would not send."""

import dataclasses
import json
import pickle
import struct

import pytest
import safetensors.torch
import torch
from torch import Tensor

from stillhouse.edge.service.invites import invite, revoke
from stillhouse.edge.service.refusals import Gone, Unauthorized
from stillhouse.errors import SettingsError
from tests.edge.service.conftest import HTTPS, IN_PROCESS, POSTGRESQL, MakeFleet
from tests.edge.service.fleet import START, TERMS, Averaging


def save(**changes: Tensor) -> bytes:
    """The clone with other tensors; two underscores stand for a dot."""
    return safetensors.torch.save({**START, **{name.replace("__", "."): value for name, value in changes.items()}})


def without(name: str) -> bytes:
    return safetensors.torch.save({key: value for key, value in START.items() if key != name})


def with_header(model: bytes, **entries: object) -> bytes:
    """The same file with more in its header."""
    (length,) = struct.unpack("<Q", model[:8])
    header = json.dumps({**json.loads(model[8 : 8 + length]), **entries}).encode()
    return struct.pack("<Q", len(header)) + header + model[8 + length :]


GOOD = save()
OUT_OF_BOUNDS = {"dtype": "F32", "shape": [10], "data_offsets": [0, 10**9]}
ODD = {
    "not finite": (save(weight=torch.full((2, 3), float("nan"))), "not finite"),
    "infinite buffer": (save(norm__running_var=torch.tensor([1.0, float("inf"), 1.0])), "not finite"),
    "negative variance": (save(norm__running_var=-torch.ones(3)), "variance"),
    "negative count": (save(norm__num_batches_tracked=torch.tensor(-1)), "count"),
    "another shape": (save(weight=torch.zeros(3, 2)), "shape"),
    "another type": (save(weight=torch.zeros(2, 3, dtype=torch.float16)), "float32 was sent"),
    "one more": (save(more=torch.zeros(1)), "not in the clone"),
    "one less": (without("weight"), "missing"),
    "empty": (b"", "not safetensors"),
    "cut short": (GOOD[:-4], "not safetensors"),
    "longer": (GOOD + b"1234", "not safetensors"),
    "pickle": (pickle.dumps({"weight": [1.0]}), "not safetensors"),
    "noise": (bytes(range(256)), "not safetensors"),
    "header beyond the file": (struct.pack("<Q", 2**60) + GOOD[8:], "not safetensors"),
    "tensor beyond the file": (with_header(GOOD, weight=OUT_OF_BOUNDS), "not safetensors"),
    "a word more": (with_header(GOOD, __metadata__={"samples": "812"}), "more than tensors"),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_returns_are_refused_and_counted(make_fleet: MakeFleet, case: str) -> None:  # faults 6 and 7
    fleet = make_fleet()
    body, words = ODD[case]
    device, before = fleet.device("a"), fleet.service.core
    lease = device.lease().lease
    device.send(lease, body)
    (reason,) = fleet.teach().values()
    assert words in reason
    assert fleet.service.core is before
    assert (device.state(lease).state, device.state(lease).reason) == ("refused", reason)
    assert fleet.service.status().devices[0].strikes == 1


@pytest.mark.parametrize("place", [IN_PROCESS, HTTPS, POSTGRESQL])
def test_three_strikes(make_fleet: MakeFleet, place: str) -> None:  # fault 6
    fleet = make_fleet(place, terms=dataclasses.replace(TERMS, waiting_per_node=3))
    device = fleet.device("a")
    for number, case in enumerate(("not finite", "another shape", "one less")):
        assert fleet.service.status().devices[0].strikes == number
        device.send(device.lease().lease, ODD[case][0])
        fleet.teach()
    with pytest.raises(Unauthorized, match="quarantined"):
        device.lease()
    fleet.visit("b", 1.0)
    assert fleet.teach() == {}


def test_what_a_quarantined_device_has_out_and_sent_is_lost(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(terms=dataclasses.replace(TERMS, strikes=1, waiting_per_node=3))
    device = fleet.device("a")
    device.send(device.lease().lease, ODD["not finite"][0])
    fleet.visit("a", 1.0)
    device.lease()
    assert list(fleet.teach().values())[1:] == ["a is quarantined"]
    assert {visit.state for visit in fleet.service.status().visits} == {"refused", "lost"}


@pytest.mark.parametrize("place", [IN_PROCESS, POSTGRESQL])
def test_a_quarantined_device_brings_nothing_late(make_fleet: MakeFleet, place: str) -> None:
    fleet = make_fleet(place, terms=dataclasses.replace(TERMS, strikes=1, late="accept"))
    device = fleet.device("a")
    device.send(device.lease().lease, ODD["not finite"][0])
    silent = device.lease().lease
    body = device.model(silent)
    device.send(silent, body, cut=20)
    fleet.clock.advance(TERMS.silent_seconds + 1)
    fleet.service.tick()
    assert (device.state(silent).state, device.state(silent).final) == ("lost", False)
    fleet.teach()
    del fleet.invitations["a"]
    device = fleet.device("a")  # invited again, with another key
    assert (device.state(silent).state, device.state(silent).final) == ("lost", True)
    with pytest.raises(Gone):
        device.send(silent, body)
    assert list(fleet.service.folder.spool.iterdir()) == []


def test_a_clone_that_nobody_taught_is_refused(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    device = fleet.device("a")
    lease = device.lease().lease
    device.send(lease, device.model(lease))
    assert fleet.teach() == {lease: "the clone came back untouched"}
    assert fleet.service.status().devices[0].strikes == 0


def test_the_same_weights_from_two_devices_count_once(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    fleet.visit("a", 1.0)
    copied = fleet.visit("b", 1.0)
    assert fleet.teach() == {copied: "the same weights came before"}


def test_the_lesson_has_its_say(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(lesson=Averaging(most=100.0, rude=1000.0))
    large, rude = fleet.visit("a", 200.0), fleet.visit("b", 2000.0)
    assert fleet.teach() == {large: "too large", rude: "too large"}
    assert [device.strikes for device in fleet.service.status().devices] == [0, 1]


def test_a_lesson_that_makes_the_core_worse_is_thrown_away(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(terms=dataclasses.replace(TERMS, allowed_fall=0.1))
    fleet.visit("a", 1.0)
    worse = fleet.visit("a", -9.0)
    (reason,) = fleet.teach().values()
    assert reason.startswith("score would fall to ")
    assert fleet.device("a").state(worse).state == "refused"
    assert fleet.service.core.version == 1


def test_a_revoked_device_is_out_at_once(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    waiting = fleet.visit("a", 1.0)
    device = fleet.device("a")
    lease = device.lease().lease
    revoke(fleet.service.database, "a", fleet.clock.now())
    with pytest.raises(Unauthorized, match="revoked"):
        device.beat(lease)
    assert fleet.teach() == {waiting: "a is revoked"}
    with pytest.raises(SettingsError, match="no such node; known: a"):
        revoke(fleet.service.database, "b", 0.0)


def test_who_comes_again_has_another_key(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    old = fleet.device("a")
    with pytest.raises(SettingsError, match="invited before"):
        invite(fleet.service.database, "a", "", "", 0.0)
    with pytest.raises(SettingsError, match="not a name"):
        invite(fleet.service.database, "../a", "", "", 0.0)
    revoke(fleet.service.database, "a", 0.0)
    del fleet.invitations["a"]
    fleet.device("a").lease()
    with pytest.raises(Unauthorized, match="another key"):
        old.lease()
