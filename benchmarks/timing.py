"""Fair timing: competitors take turns in one process, and a ratio is the median of the ratios within each round.

On a CPU everything runs on one thread and CPU seconds count, so that a busy machine disturbs little; on a GPU the time
between two events on its stream counts.
"""

import argparse
import datetime as dt
import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

Work = Callable[[], object]
Times = dict[str, list[float]]
Row = dict[str, str | float]

COLUMN = "bar"


class Clock:
    """Seconds since `start`: of this process on a CPU, of the stream on a GPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.start()

    def start(self) -> None:
        """Begin to count."""
        if self.device.type == "cuda":
            self._event = torch.cuda.Event(enable_timing=True)
            self._event.record()
        else:
            self._seconds = time.process_time()

    def stop(self) -> float:
        """Seconds since the last `start`."""
        if self.device.type != "cuda":
            return time.process_time() - self._seconds
        end = torch.cuda.Event(enable_timing=True)
        end.record()
        end.synchronize()
        return float(self._event.elapsed_time(end)) / 1e3

    def measure(self, work: Work, repeats: int = 1) -> float:
        """Seconds that one call takes, as the mean of `repeats` calls in a row."""
        self.start()
        for _ in range(repeats):
            work()
        return self.stop() / repeats


class Turns:
    """Hears the log of a training run and lets competitors take as many steps as the run has taken since it last spoke.

    The time from the end of their turn to the next line of the log is the run's own, with all that it does besides:
    fetching images, making views, heads, loss, optimizer, bookkeeping, the log itself.
    """

    def __init__(self, works: Mapping[str, Work], device: torch.device, skipped: int = 2) -> None:
        self._works, self._clock, self._skipped = works, Clock(device), skipped
        self._step = 0
        self.times: Times = {"run": [], **{name: [] for name in works}}

    def hear(self, record: Mapping[str, Any]) -> None:
        """Take the time at a line of the log, then let the others have their turn."""
        if record["kind"] != "step":
            return
        steps, self._step = record["step"] - self._step, record["step"]
        round_times = {"run": self._clock.stop() / steps}
        round_times |= {name: self._clock.measure(work, steps) for name, work in self._works.items()}
        if self._skipped:
            self._skipped -= 1
        else:
            for name, seconds in round_times.items():
                self.times[name].append(seconds)
        self._clock.start()

    def close(self) -> None:
        """Nothing more will come."""


def measure(works: Mapping[str, Work], rounds: int, device: torch.device, repeats: int = 1) -> Times:
    """Seconds per call of each work in each round, after one round that does not count."""
    clock, times = Clock(device), {name: list[float]() for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            seconds = clock.measure(work, repeats)
            if number:
                times[name].append(seconds)
    return times


def ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """Median over the rounds of `over / under`."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


@dataclass(frozen=True)
class Bar:
    """What a number has to reach."""

    limit: float
    at_most: bool = True

    def judge(self, value: float) -> str:
        """The bar, and whether the value keeps it."""
        kept = value <= self.limit if self.at_most else value >= self.limit
        return f"{'<=' if self.at_most else '>='} {self.limit:g}, {'kept' if kept else 'MISSED'}"


@dataclass(frozen=True)
class Table:
    """Rows under a title; every row has the keys of the first."""

    title: str
    rows: Sequence[Row]

    def markdown(self) -> str:
        """The table as Markdown."""
        keys = list(self.rows[0])
        lines = [f"### {self.title}", "", f"| {' | '.join(keys)} |", "|---" * len(keys) + "|"]
        lines += [f"| {' | '.join(_text(row[key]) for key in keys)} |" for row in self.rows]
        return "\n".join(lines) + "\n"


def _text(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def parser(description: str, rounds: int) -> argparse.ArgumentParser:
    """The arguments that all benchmarks share."""
    shared = argparse.ArgumentParser(description=description)
    shared.add_argument("--rounds", type=int, default=rounds, help="rounds that count (%(default)s)")
    shared.add_argument("--out", type=Path, help="also write the tables to this .md or .json file")
    return shared


def prepare() -> torch.device:
    """One thread; the device is a GPU where there is one."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of the peers
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def machine(device: torch.device) -> str:
    """Date, hardware and version of torch."""
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{processor()}, one thread, CPU seconds"
    return f"{dt.date.today()}, {where}, torch {torch.__version__}"


def processor() -> str:
    """Name of the processor and number of its cores that this machine shows."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def report(tables: Sequence[Table], device: torch.device, out: Path | None) -> None:
    """Print the tables, and write them where asked."""
    text = f"{machine(device)}\n\n" + "\n".join(table.markdown() for table in tables)
    print(text, end="")
    if out and out.suffix == ".json":
        content = {"machine": machine(device), "tables": [{"title": t.title, "rows": list(t.rows)} for t in tables]}
        text = json.dumps(content, indent=2) + "\n"
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text)
