"""A device that means no good, with a valid invitation: `python benchmarks/fleet_hostile.py INVITE DATA FOLDER`.

It borrows clones and returns attacks in their place, then sends what is no proper request, then what no honest device
sends, until it is shut out. Says one line per attempt.
"""

import argparse
import http.client
import json
import pickle
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import safetensors.torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_wire import announced, read_key
from stillhouse.edge.device.client import Client
from stillhouse.edge.device.heartbeat import Heartbeat
from stillhouse.edge.device.limits import Limits
from stillhouse.edge.device.setbacks import Wait
from stillhouse.edge.device.terms import Lease
from stillhouse.edge.device.training import learn
from stillhouse.edge.device.visit import Visit
from stillhouse.edge.invitation import Invitation
from stillhouse.edge.learning.attackers import ATTACKS
from stillhouse.edge.lesson import State
from stillhouse.edge.signing import sign
from stillhouse.errors import RunError
from stillhouse.methods.travel import pack

PLAUSIBLE = ("free_rider", "random_weights", "noise", "sign_flip", "boost")
"""Attacks that look like returns."""
MALFORMED = ("not_a_number", "misshapen", "pickle")
"""What no honest device sends."""
OPEN = ("out", "spooled")
TRAINED = ("sign_flip", "boost")
"""Attacks on what an honest training made of the clone."""


class Hostile:
    """Attempts, one after the other.

    Args:
        invitation: a valid one.
        data: images, for attacks that need a training.
        folder: for clones.
    """

    def __init__(self, invitation: Invitation, data: str, folder: Path) -> None:
        self._invitation, self._data, self._folder = invitation, data, folder
        self._client, self._key = Client(invitation), read_key(invitation)
        self._trust = ssl.create_default_context(cadata=invitation.ca)

    def returned(self, attack: str, seed: int) -> str:
        """Borrow a clone and return an attack: what became of it."""
        visit = Visit(self._folder / "visit")
        lease = self._lease()
        visit.begin(lease, time.time() + lease.deadline)
        with Heartbeat(self._client, lease, time.time() + lease.deadline):
            self._client.fetch(lease, visit.clone)
            visit.returned.write_bytes(self._body(attack, visit, lease, seed))
            self._client.send(lease, visit.returned)
            state, reason = self._client.state(lease)
            while state in OPEN:
                time.sleep(1.0)
                state, reason = self._client.state(lease)
        return f"{state} because {reason}" if reason else state

    def improper(self) -> Iterator[tuple[str, str]]:
        """Requests that are none, and what is answered."""
        path = self._lease().path
        signed, body = self._signed("GET", path), b"not what was signed"
        yield "a proper request", self._ask("GET", path, signed)
        yield "the same request again", self._ask("GET", path, signed)
        yield "signed with another key", self._ask("GET", path, self._signed("GET", path, Ed25519PrivateKey.generate()))
        yield "signed ten minutes ago", self._ask("GET", path, self._signed("GET", path, ago=600.0))
        foreign = path[:-4] + "beef"
        yield "a lease of somebody else", self._ask("GET", foreign, self._signed("GET", foreign))
        path = f"{path}/result"
        yield "a body without length", self._ask("PUT", path, self._signed("PUT", path))
        huge = {"content-length": str(300 * 10**6)}
        yield "300 MB announced", self._ask("PUT", path, self._signed("PUT", path) | huge)
        yield "another body than signed", self._ask("PUT", path, self._signed("PUT", path) | announced(body), body)

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def _signed(self, method: str, path: str, key: Ed25519PrivateKey | None = None, ago: float = 0.0) -> dict[str, str]:
        return sign(key or self._key, self._invitation.node, method, path, now=time.time() - ago)

    def _ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> str:
        """Status and reason that a request gets which is sent just as it is."""
        line = http.client.HTTPSConnection(self._invitation.url.removeprefix("https://"), context=self._trust)
        with closing(line):
            line.putrequest(method, path)
            for name, value in headers.items():
                line.putheader(name, value)
            line.endheaders(body)
            answer = line.getresponse()
            said = json.loads(answer.read())
        return f"answered {answer.status}, {said.get('error', said.get('state'))}"

    def _lease(self) -> Lease:
        while True:
            try:
                return self._client.lease()
            except Wait as later:
                time.sleep(later.seconds)

    def _body(self, attack: str, visit: Visit, lease: Lease, seed: int) -> bytes:
        clone: State = safetensors.torch.load_file(visit.clone)
        if attack == "pickle":
            return pickle.dumps({name: value.numpy() for name, value in clone.items()})
        honest = clone
        if attack in TRAINED:
            honest = pack(learn(visit, lease, self._data, Limits(), tell=lambda told: None))
        return safetensors.torch.save(dict(ATTACKS[attack](clone, honest, seed)))


def main() -> None:
    """Try everything until shut out."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("invite", type=Path)
    options.add_argument("data")
    options.add_argument("folder", type=Path)
    options.add_argument("--pause", type=float, default=0.0, help="seconds between two attempts")
    given = options.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    hostile = Hostile(Invitation.read(given.invite), given.data, given.folder)
    try:
        for seed, attack in enumerate(PLAUSIBLE):
            print(f"{attack}: {hostile.returned(attack, seed)}")
            time.sleep(given.pause)
        for name, answer in hostile.improper():
            print(f"{name}: {answer}")
        for seed, attack in enumerate(MALFORMED):
            print(f"{attack}: {hostile.returned(attack, seed)}")
            time.sleep(given.pause)
        print(f"one more: {hostile.returned('free_rider', 0)}")
    except RunError as end:
        print(f"shut out: {end}")
    finally:
        hostile.close()


if __name__ == "__main__":
    main()
