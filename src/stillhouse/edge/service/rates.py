"""How fast a device may ask, and how slowly it may send."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt


@dataclass(frozen=True, kw_only=True)
class WebConfig:
    """What a device may ask of the line."""

    silence_seconds: Annotated[float, Gt(0)] = 30.0
    """A body that pauses for so long is cut off."""
    grace_seconds: Annotated[float, Ge(0)] = 30.0
    """After so long a body must have come at `slowest` on average."""
    slowest: Annotated[float, Ge(0)] = 2048.0
    """Bytes per second."""
    requests_per_second: Annotated[float, Gt(0)] = 20.0
    """Of one node, and of one address whose requests are refused."""
    burst: Annotated[int, Ge(1)] = 100
    """Requests at once."""


class Buckets:
    """How much everybody may still ask: `burst` at once, and then `rate` per second.

    Args:
        rate: requests per second.
        burst: requests at once.
        now: tells the time in seconds.
    """

    MOST = 10_000
    """Callers that are remembered."""

    def __init__(self, rate: float, burst: int, now: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._now = rate, burst, now
        self._levels: dict[str, tuple[float, float]] = {}

    def wait(self, caller: str) -> float:
        """Seconds until this caller may ask; 0 at once."""
        return max(0.0, (1 - self._level(caller)) / self._rate)

    def take(self, caller: str) -> None:
        """Let the caller ask once."""
        if len(self._levels) >= self.MOST:
            self._levels = {name: held for name, held in self._levels.items() if self._level(name) < self._burst}
        self._levels[caller] = (self._level(caller) - 1, self._now())

    def _level(self, caller: str) -> float:
        level, then = self._levels.get(caller, (float(self._burst), self._now()))
        return min(self._burst, level + (self._now() - then) * self._rate)
