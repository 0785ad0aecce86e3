"""The time that leases run by: the world's, or one that only moves when it is told to."""

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> float:
        """Seconds since 1970."""


class RealClock:
    """The time of this machine, which goes on while the service does not run."""

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time()


class VirtualClock:
    """A time that only `advance` moves, for simulations and tests."""

    def __init__(self, now: float = 0.0) -> None:
        self._now = now

    def now(self) -> float:
        """Seconds since this clock's beginning."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass, at once."""
        assert seconds >= 0, "time does not run backwards"
        self._now += seconds
