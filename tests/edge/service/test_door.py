"""Who may come in: signatures, clocks, nonces."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stillhouse.edge.service.refusals import Unauthorized
from stillhouse.edge.signing import (
    BODY,
    EMPTY,
    NODE,
    NONCE,
    SIGNATURE,
    TIME,
    is_node_name,
    public_text,
    read_public,
    sign,
    verify,
    well_formed,
)
from tests.edge.service.conftest import HTTPS, IN_PROCESS, POSTGRESQL, MakeFleet
from tests.edge.service.fleet import WALL, OverHttps

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def test_the_signature_is_over_these_lines() -> None:
    headers = sign(KEY, "a", "PUT", "/x?y=1", "0" * 64, now=12.5, nonce="f" * 32)
    lines = f"PUT\n/x?y=1\na\n12.500000\n{'f' * 32}\n{'0' * 64}"
    assert {**headers, SIGNATURE: ""} == {NODE: "a", TIME: "12.500000", NONCE: "f" * 32, BODY: "0" * 64, SIGNATURE: ""}
    public = read_public(public_text(KEY))
    public.verify(base64.b64decode(headers[SIGNATURE]), lines.encode())  # raises where it does not hold
    assert verify(public, "PUT", "/x?y=1", headers)


@pytest.mark.parametrize(
    "change",
    [
        {NODE: "b"},
        {TIME: "13"},
        {NONCE: "0" * 32},
        {BODY: EMPTY},
        {SIGNATURE: "A" * 86 + "=="},
        {SIGNATURE: "no"},
        {NONCE: ""},
        {TIME: "-1"},
        {TIME: "nan"},
        {NODE: "a\nb"},
    ],
)
def test_nothing_signed_can_be_changed(change: dict[str, str]) -> None:
    headers = sign(KEY, "a", "GET", "/", "0" * 64, now=12.5)
    public = KEY.public_key()
    assert verify(public, "GET", "/", headers)
    assert not verify(public, "GET", "/", {**headers, **change})
    assert not verify(public, "POST", "/", headers)
    assert not verify(public, "GET", "/?", headers)
    assert not verify(Ed25519PrivateKey.generate().public_key(), "GET", "/", headers)


def test_headers_that_are_missing() -> None:
    headers = sign(KEY, "a", "GET", "/", now=0.0)
    assert well_formed(headers)
    for name in headers:
        assert not well_formed({key: value for key, value in headers.items() if key != name})
    assert not is_node_name("a/b")
    assert hashlib.sha256().hexdigest() == EMPTY


@pytest.mark.parametrize("place", [IN_PROCESS, HTTPS, POSTGRESQL])
def test_strangers_stay_out(make_fleet: MakeFleet, place: str) -> None:  # fault 14
    fleet = make_fleet(place)
    lease = fleet.device("a").lease().lease
    for name in ("a", "nobody"):
        stranger = fleet.stranger(name, Ed25519PrivateKey.generate())
        for ask in (stranger.lease, lambda stranger=stranger: stranger.beat(lease)):
            with pytest.raises(Unauthorized, match="not known here, or signed with another key"):
                ask()
    assert fleet.device("a").state(lease).state == "out"


@pytest.mark.parametrize("place", [IN_PROCESS, POSTGRESQL])
def test_a_request_is_served_once_and_in_time(make_fleet: MakeFleet, place: str) -> None:  # fault 15
    fleet = make_fleet(place)
    fleet.device("a")
    key = fleet.keys["a"]
    headers = sign(key, "a", "POST", "/v1/lease", now=WALL)
    assert fleet.door.admit("POST", "/v1/lease", headers) == "a"
    with pytest.raises(Unauthorized, match="came before"):
        fleet.door.admit("POST", "/v1/lease", headers)
    fleet.restart()
    fleet.service.tick()
    with pytest.raises(Unauthorized, match="came before"):
        fleet.door.admit("POST", "/v1/lease", headers)
    for seconds, served in ((-299.0, True), (299.0, True), (-301.0, False), (301.0, False)):
        off = sign(key, "a", "POST", "/v1/lease", now=WALL + seconds)
        if served:
            fleet.door.admit("POST", "/v1/lease", off)
        else:
            with pytest.raises(Unauthorized, match="clock"):
                fleet.door.admit("POST", "/v1/lease", off)


def test_a_nonce_is_remembered_as_long_as_its_request_could_be_taken(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    fleet.device("a")
    headers = sign(fleet.keys["a"], "a", "POST", "/v1/lease", now=WALL + 299.0)
    fleet.door.admit("POST", "/v1/lease", headers)
    fleet.clock.advance(598.0)
    fleet.service.tick()
    with pytest.raises(Unauthorized, match="came before"):
        fleet.door.admit("POST", "/v1/lease", headers)
    fleet.clock.advance(100.0)
    fleet.service.tick()
    with pytest.raises(Unauthorized, match="clock"):
        fleet.door.admit("POST", "/v1/lease", headers)


def test_replay_and_clock_over_https(make_fleet: MakeFleet) -> None:  # fault 15
    fleet = make_fleet(HTTPS)
    device = fleet.device("a")
    assert isinstance(device, OverHttps)
    headers = device.signed("POST", "/v1/lease")
    first = device.http.post("/v1/lease", headers=headers)
    second = device.http.post("/v1/lease", headers=headers)
    assert (first.status_code, second.status_code) == (201, 401)
    device.edits = sign(device.key, "a", "POST", "/v1/lease", now=WALL - 301.0)
    with pytest.raises(Unauthorized, match="clock"):
        device.lease()
    unsigned = device.http.post("/v1/lease")
    assert (unsigned.status_code, "not signed" in unsigned.json()["error"]) == (401, True)
