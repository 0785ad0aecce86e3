"""Many devices in one process: each borrows a clone, beats and returns it, over HTTPS and signed, as `join` does."""

import asyncio
import hashlib
import random
import ssl
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx
import numpy as np

from edge_wire import announced, read_key
from stillhouse.edge.invitation import Invitation
from stillhouse.edge.signing import EMPTY, sign

LAG_SECONDS = 0.05


@dataclass
class Measured:
    """Seconds of every request or exchange, by what it was, and what went wrong."""

    beats: list[float] = field(default_factory=list)
    visits: list[float] = field(default_factory=list)
    """Lease, model and return together, without what stands for training."""
    taught: list[float] = field(default_factory=list)
    """From the return's arrival until it is seen to have taught."""
    lags: list[float] = field(default_factory=list)
    """By how much these devices themselves were late, looked at all the time."""
    requests: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Measured") -> None:
        """Take in what another process measured."""
        for name in ("beats", "visits", "taught", "lags"):
            getattr(self, name).extend(getattr(other, name))
        self.requests += other.requests
        self.errors += other.errors


@dataclass(frozen=True)
class Habits:
    """What a device does: seconds of training and between beats, drawn evenly; and for how long it takes part."""

    training: tuple[float, float]
    beat: tuple[float, float]
    poll: float
    """Seconds between two questions whether a return has taught."""
    seconds: float
    spread: float
    """Seconds in which the devices begin, one after the other."""


class _Device:
    def __init__(self, invitation: Invitation, trust: ssl.SSLContext, habits: Habits, measured: Measured) -> None:
        self._node, self._key = invitation.node, read_key(invitation)
        self._http = httpx.AsyncClient(base_url=invitation.url, verify=trust, trust_env=False, timeout=60.0)
        self._habits, self._measured, self._random = habits, measured, random.Random(invitation.node)
        self._visits = 0

    async def run(self) -> None:
        """Visit after visit until the time is over; an error is counted, and the next visit begins."""
        until = time.monotonic() + self._habits.seconds
        await asyncio.sleep(self._random.uniform(0.0, self._habits.spread))
        async with self._http:
            while time.monotonic() < until:
                try:
                    await self._visit(until)
                except (httpx.HTTPError, AssertionError) as error:
                    self._measured.errors[f"{type(error).__name__}: {error}"[:200]] += 1
                    await asyncio.sleep(1.0)

    async def _visit(self, until: float) -> None:
        began = time.perf_counter()
        lease = (await self._ask("POST", "/v1/lease")).json()
        path = f"/v1/lease/{lease['lease']}"
        model = (await self._ask("GET", f"{path}/model")).content
        assert hashlib.sha256(model).hexdigest() == lease["digest"], "another clone than was lent"
        seconds = time.perf_counter() - began
        await self._train(path, until)
        if time.monotonic() > until:
            return  # or all devices would return at once at the end
        self._visits += 1
        body = model[:-8] + np.array([self._random.random(), self._visits], np.float32).tobytes()
        began = time.perf_counter()
        assert (await self._ask("GET", path)).json()["state"] == "out", "the lease is not out any more"
        offset = (await self._ask("HEAD", f"{path}/result")).headers["upload-offset"]
        assert offset == "0", "something of the return has come before"
        told = announced(body)
        await self._ask("PUT", f"{path}/result", told["upload-digest"], told, body)
        came = time.perf_counter()
        self._measured.visits.append(seconds + came - began)
        while (state := (await self._ask("GET", path)).json()["state"]) == "spooled":
            await asyncio.sleep(self._habits.poll)
        assert state == "applied", f"the return was {state}"
        self._measured.taught.append(time.perf_counter() - came)

    async def _train(self, path: str, until: float) -> None:
        end = min(time.monotonic() + self._random.uniform(*self._habits.training), until + 0.1)
        while (left := end - time.monotonic()) > 0:
            began = time.perf_counter()
            await self._ask("POST", f"{path}/beat")
            self._measured.beats.append(time.perf_counter() - began)
            await asyncio.sleep(min(left, self._random.uniform(*self._habits.beat)))

    async def _ask(
        self, method: str, path: str, digest: str = EMPTY, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> httpx.Response:
        signed = sign(self._key, self._node, method, path, digest, now=time.time())
        self._measured.requests += 1
        response = await self._http.request(method, path, headers={**signed, **(headers or {})}, content=body or None)
        return response.raise_for_status()


def take_part(invitations: Sequence[Invitation], habits: Habits) -> Measured:
    """Be these devices until their time is over."""
    return asyncio.run(_together(invitations, habits))


async def _together(invitations: Sequence[Invitation], habits: Habits) -> Measured:
    measured, trust = Measured(), ssl.create_default_context(cadata=invitations[0].ca)
    watch = asyncio.create_task(_watch(measured))
    await asyncio.gather(*(_Device(one, trust, habits, measured).run() for one in invitations))
    watch.cancel()
    return measured


async def _watch(measured: Measured) -> None:
    while True:
        began = time.perf_counter()
        await asyncio.sleep(LAG_SECONDS)
        measured.lags.append(time.perf_counter() - began - LAG_SECONDS)
