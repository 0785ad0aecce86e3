"""Limits of a device, against clocks and loads that are made up, and once against the system itself."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from stillhouse.edge.device.limits import Limits, OthersLoad, Watch, parse_size
from stillhouse.errors import SettingsError


class Clock:
    """Time that passes only while somebody sleeps or works."""

    def __init__(self) -> None:
        self.now, self.slept = 100.0, list[float]()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GiB", 2**31), ("500MB", 500_000_000), ("1.5 gib", 3 * 2**29), ("1073741824", 2**30), ("64M", 64 * 2**20)],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-1GiB", "2TiB", "1e9", "two"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="is not a size"):
        parse_size(text)


def test_a_visit_ends_when_its_minutes_are_over_and_counts_those_before_it_was_killed() -> None:
    clock = Clock()
    watch = Watch(Limits(max_minutes=2), spent=30, clock=clock, sleep=clock.sleep)
    clock.now += 89
    assert watch() == ""
    clock.now += 1
    assert watch() == "--max-minutes 2"
    assert watch.reason == "--max-minutes 2"


def test_without_limits_a_visit_goes_on() -> None:
    clock = Clock()
    watch = Watch(Limits(), clock=clock, sleep=clock.sleep)
    clock.now += 1e9
    assert watch() == ""
    assert not clock.slept


def test_training_pauses_while_others_use_the_machine_and_the_pause_does_not_count() -> None:
    clock, told = Clock(), list[str]()
    loads: Iterator[float] = iter([0.1, 0.6, 0.5, 0.24, 0.0])
    limits = Limits(only_idle=True, max_minutes=1, poll_seconds=10)
    watch = Watch(limits, tell=told.append, clock=clock, sleep=clock.sleep, load=lambda: next(loads))
    assert watch() == ""
    clock.now += 5
    assert watch() == ""  # not yet time for another look
    clock.now += 6
    assert watch() == ""
    assert clock.slept == [10, 10]
    assert told == ["paused: others use 60% of this machine", "goes on"]
    clock.now += 48
    assert watch() == ""
    clock.now += 1
    assert watch() == "--max-minutes 1"


def test_a_pause_ends_when_the_visit_is_cancelled() -> None:
    clock = Clock()
    reasons = iter(["", "", "lost", "lost"])
    watch = Watch(
        Limits(only_idle=True), cancelled=lambda: next(reasons), tell=list[str]().append,
        clock=clock, sleep=clock.sleep, load=lambda: 1.0,
    )  # fmt: skip
    assert watch() == "lost"
    assert len(clock.slept) == 2


def test_what_others_do_is_what_all_do_but_not_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([(100.0, 40.0, 10.0), (110.0, 48.0, 15.0), (120.0, 48.0, 15.0)])
    monkeypatch.setattr("stillhouse.edge.device.limits.cpu_seconds", lambda: next(seconds))
    load = OthersLoad(lambda _: None)
    assert load() == pytest.approx(0.3)
    assert load() == 0


def test_the_machine_itself_is_measured() -> None:
    load = OthersLoad()
    assert 0 <= load() <= 1


def test_a_process_does_not_grow_beyond_its_memory() -> None:
    """In a process of its own, since memory that was once used is not given back."""
    program = """
import torch
from stillhouse.edge.device.limits import OutOfMemory, memory, memory_limit
from stillhouse.errors import SettingsError
limit = memory()[1] + 2**26
with memory_limit(limit):
    torch.ones(2**22)
try:
    with memory_limit(limit):
        torch.ones(2**27)
except OutOfMemory:
    print("refused")
torch.ones(2**25)
try:
    with memory_limit(2**20):
        raise AssertionError
except SettingsError as error:
    print("in use before" in str(error))
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["refused", "True"]
