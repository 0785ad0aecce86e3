"""What a device gives: memory, minutes, and only the time in which nobody else wants the machine."""

import os
import re
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Gt, Interval

from stillhouse.errors import SettingsError

Tell = Callable[[str], None]

UNITS = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}
SIZE = re.compile(r"(?P<count>\d+(\.\d+)?) ?(?P<unit>[KMG]?i?B?)", re.ASCII | re.IGNORECASE)
OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "can't start new thread")
"""What torch says when the system gives no more."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a visit may take of its machine."""

    max_bytes: Annotated[int, Ge(0)] = 0
    """Memory of the process; 0 for any."""
    max_minutes: Annotated[float, Ge(0)] = 0.0
    """Training of one visit, pauses not counted; 0 for any."""
    only_idle: bool = False
    """Whether to pause while others use the machine."""
    busy: Annotated[float, Interval(gt=0, le=1)] = 0.25
    """Share of all cores used by others from which on the machine is theirs."""
    poll_seconds: Annotated[float, Gt(0)] = 5.0
    """Between two looks at what others do."""


def parse_size(text: str) -> int:
    """Bytes of `2GiB`, `500 MB` or `1073741824`.

    Raises:
        SettingsError: it is not a size.
    """
    match = SIZE.fullmatch(text.strip())
    unit = match["unit"].upper() if match else "?"
    if not match or (unit not in UNITS and unit not in {"K", "M", "G"}):
        raise SettingsError(f"--max-memory: {text!r} is not a size; write 2GiB, 500MB or a number of bytes")
    return int(float(match["count"]) * (UNITS[unit] if unit in UNITS else UNITS[f"{unit}IB"]))


class OutOfMemory(Exception):  # noqa: N818 (a wish for more, answered by a smaller batch)
    """More memory was asked for than is given."""


@contextmanager
def memory_limit(max_bytes: int) -> Iterator[None]:
    """Let this process grow to so many bytes of memory and no further; 0 lets it be.

    The system counts what is asked for and not what is used, so what is free under the limit is added to what is asked
    for already. Memory of a GPU does not count.

    Raises:
        OutOfMemory: the limit was reached inside.
        SettingsError: it is below what is in use already.
    """
    if not max_bytes:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    asked, used = memory()
    if used >= max_bytes:
        raise SettingsError(f"--max-memory: {used / 2**20:,.0f} MiB are in use before anything is learnt; give more")
    wanted = asked + max_bytes - used
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if before[1] < 0 else min(wanted, before[1]), before[1]))
    try:
        yield
    except MemoryError as error:
        raise OutOfMemory(str(error)) from error
    except RuntimeError as error:
        if any(words in str(error).lower() for words in OUT_OF_MEMORY):
            raise OutOfMemory(str(error)) from error
        raise
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def memory() -> tuple[int, int]:
    """Bytes that this process asked the system for, and bytes that it uses.

    Raises:
        SettingsError: the system does not tell.
    """
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        asked, used = (int(lines[name].split()[0]) * 1024 for name in ("VmData", "VmRSS"))
    except (OSError, KeyError, ValueError) as error:
        raise SettingsError("--max-memory: needs Linux, which tells how much is in use; leave it out") from error
    return asked, used


class OthersLoad:
    """How much of the machine other processes have used since the last call; the first call waits a moment."""

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        self._before = cpu_seconds()
        sleep(0.2)

    def __call__(self) -> float:
        """Share of all cores, in [0, 1]."""
        before, self._before = self._before, cpu_seconds()
        total, busy, own = (now - then for now, then in zip(self._before, before, strict=True))
        return min(1.0, max(0.0, busy - own) / total) if total > 0 else 0.0


def cpu_seconds() -> tuple[float, float, float]:
    """Seconds of all cores since the machine started: all, those at work, and those at work for this process.

    Raises:
        SettingsError: the system does not tell.
    """
    try:
        ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError) as error:
        raise SettingsError("--only-idle: needs Linux, which tells what others do; leave it out") from error
    unit = os.sysconf("SC_CLK_TCK")
    own = os.times()
    return sum(ticks) / unit, (sum(ticks) - ticks[3] - ticks[4]) / unit, own.user + own.system


@dataclass
class Watch:
    """Asked after every step: waits while the machine is busy, and says when a visit has to end.

    Clock, sleep and load are those of the machine unless a test brings its own.
    """

    limits: Limits
    spent: float = 0.0
    """Seconds that were trained before, of this visit."""
    cancelled: Callable[[], str] = str
    """Why nobody wants the visit any more; empty while somebody does."""
    tell: Tell = print
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    load: Callable[[], float] | None = None
    reason: str = field(default="", init=False)
    """Why the visit ended early; empty if it did not."""

    def __post_init__(self) -> None:
        self._began = self.clock() - self.spent
        self._looked = -float("inf")
        if self.limits.only_idle and self.load is None:
            self.load = OthersLoad(self.sleep)

    def __call__(self) -> str:
        """Why the visit ends here; empty to go on."""
        self._wait()
        is_over = 0 < 60 * self.limits.max_minutes <= self.clock() - self._began
        self.reason = self.cancelled() or (f"--max-minutes {self.limits.max_minutes:g}" if is_over else "")
        return self.reason

    def _wait(self) -> None:
        """Return when the machine is idle, or the visit is not wanted any more; at most one look per poll."""
        began = self.clock()
        if self.load is None or not self.limits.only_idle or began - self._looked < self.limits.poll_seconds:
            return
        share, paused = self.load(), False
        while share >= self.limits.busy and not self.cancelled():
            if not paused:
                self.tell(f"paused: others use {share:.0%} of this machine")
            paused = True
            self.sleep(self.limits.poll_seconds)
            share = self.load()
        self._looked = self.clock()
        if paused:
            self._began += self._looked - began
            self.tell("goes on")
