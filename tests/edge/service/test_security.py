"""Who is not let in, whatever is sent: endpoints without signatures, names that climb, bodies that unfold."""

import gzip
import hashlib
import itertools
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stillhouse.edge.service.refusals import Refusal, Unauthorized
from stillhouse.edge.signing import BODY, EMPTY, NODE, NONCE, SIGNATURE, TIME, sign
from tests.edge.service.conftest import HTTPS, IN_PROCESS, POSTGRESQL, MakeFleet
from tests.edge.service.fleet import WALL, Fleet, OverHttps
from tests.edge.service.snapshot import snapshot

ENDPOINTS = [
    ("POST", "/v1/lease"),
    ("GET", "/v1/lease/{}/model"),
    ("POST", "/v1/lease/{}/beat"),
    ("HEAD", "/v1/lease/{}/result"),
    ("PUT", "/v1/lease/{}/result"),
    ("GET", "/v1/lease/{}"),
]
CONTENT = b"1234"
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
Forging = Callable[[OverHttps, str, str, str], dict[str, str]]
"""Device, method, path and hash of a request to the headers of one that is none of this device."""


def without(name: str) -> Forging:
    def forge(device: OverHttps, method: str, path: str, body: str) -> dict[str, str]:
        headers = sign(device.key, "a", method, path, body, now=WALL)
        return {key: value for key, value in headers.items() if key != name}

    return forge


def other(**changes: str) -> Forging:
    def forge(device: OverHttps, method: str, path: str, body: str) -> dict[str, str]:
        told = {"method": method, "path": path, "body": body, **changes}
        signed = sign(device.key, "a", told["method"], told["path"], told["body"], now=WALL)
        return {**signed, BODY: body}

    return forge


FORGED: dict[str, Forging] = {
    "unsigned": lambda device, method, path, body: {},
    **{f"without {name}": without(name) for name in (NODE, TIME, NONCE, BODY, SIGNATURE)},
    "another key": lambda device, method, path, body: sign(STRANGER, "a", method, path, body, now=WALL),
    "an unknown name": lambda device, method, path, body: sign(STRANGER, "nobody", method, path, body, now=WALL),
    "another's name": lambda device, method, path, body: sign(device.key, "b", method, path, body, now=WALL),
    "another method": other(method="PATCH"),
    "another path": other(path="/v1/lease/0/model"),
    "a query more": other(path="/v1/lease?all=1"),
    "another body": other(body="0" * 64),
    "a clock too slow": lambda device, method, path, body: sign(device.key, "a", method, path, body, now=WALL - 301),
    "a clock too fast": lambda device, method, path, body: sign(device.key, "a", method, path, body, now=WALL + 301),
}


@pytest.fixture
def fleet(make_fleet: MakeFleet) -> Fleet:
    """A core behind HTTPS."""
    return make_fleet(HTTPS)


@pytest.fixture
def device(fleet: Fleet) -> OverHttps:
    """One device; another one is known."""
    fleet.device("b")
    known = fleet.device("a")
    assert isinstance(known, OverHttps)
    return known


def ask(device: OverHttps, method: str, path: str, headers: dict[str, str]) -> int:
    body = CONTENT if method == "PUT" else None
    return device.http.request(method, path, headers=headers, content=body).status_code


def test_no_endpoint_serves_what_is_not_signed(fleet: Fleet, device: OverHttps) -> None:  # faults 14 and 15
    lease = device.lease().lease
    before = snapshot(fleet)
    for (method, template), (name, forge) in itertools.product(ENDPOINTS, FORGED.items()):
        path = template.format(lease)
        body = hashlib.sha256(CONTENT).hexdigest() if method == "PUT" else EMPTY
        assert (ask(device, method, path, forge(device, method, path, body)), method, path, name) == (
            401, method, path, name,
        )  # fmt: skip
    assert snapshot(fleet) == before


def test_no_endpoint_serves_a_request_again(fleet: Fleet, device: OverHttps) -> None:  # fault 15
    for method, template in ENDPOINTS[1:]:
        lease = device.lease().lease
        path = template.format(lease)
        body = hashlib.sha256(CONTENT).hexdigest() if method == "PUT" else EMPTY
        headers = sign(device.key, "a", method, path, body, now=WALL)
        assert ask(device, method, path, headers) in (200, 202)
        before = snapshot(fleet)
        assert (ask(device, method, path, headers), path) == (401, path)
        assert snapshot(fleet) == before


CLIMBING = [
    "..",
    "../../etc/passwd",
    "..%2f..%2fcore.toml",
    "%2e%2e%2f%2e%2e%2fcore.toml",
    "..%5c..%5ccore.toml",
    "%252e%252e%252fcore.toml",
    "....//core.toml",
    "%00",
    "0" * 31 + "%00",
    "%c0%ae%c0%ae%c0%af",
    "x" * 5000,
    "%0d%0ax-stillhouse-node:%20b",
    "*",
    "' or '1'='1",
]


@pytest.mark.parametrize("place", [HTTPS, POSTGRESQL])
def test_names_of_leases_do_not_climb(make_fleet: MakeFleet, place: str) -> None:
    fleet = make_fleet(place)
    device = fleet.device("a")
    own = device.lease().lease
    before = snapshot(fleet)
    for lease in CLIMBING:
        asked = (device.model, device.beat, device.offset, device.state, lambda known: device.send(known, CONTENT))
        for call in asked:
            with pytest.raises(Refusal):
                call(lease.replace(" ", "%20") if place == HTTPS else lease.replace("%00", "\0"))
    assert snapshot(fleet) == before
    assert device.state(own).state == "out"


@pytest.mark.parametrize("place", [IN_PROCESS, HTTPS])
def test_names_of_devices_do_not_climb(make_fleet: MakeFleet, place: str) -> None:
    fleet = make_fleet(place)
    fleet.device("a")
    before = snapshot(fleet)
    for name in ("../a", "a/../a", "a\\b", ".a", "", "a" * 65, "a b", "%61"):
        with pytest.raises(Unauthorized):
            fleet.stranger(name, fleet.keys["a"]).lease()
    assert snapshot(fleet) == before


def test_nothing_is_unpacked(fleet: Fleet, device: OverHttps) -> None:
    """30 MB of zeros in 30 kB stay 30 kB, whatever the headers say of them."""
    lease = device.lease().lease
    packed = gzip.compress(bytes(30_000_000))
    digest = hashlib.sha256(packed).hexdigest()
    headers = {"content-encoding": "gzip", "upload-length": str(len(packed)), "upload-digest": digest}
    device.ask("PUT", f"/v1/lease/{lease}/result", headers, packed)
    (path,) = fleet.service.folder.spool.iterdir()
    assert path.read_bytes() == packed
    (reason,) = fleet.teach().values()
    assert "not safetensors" in reason
