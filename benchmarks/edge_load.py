"""How the edge service bears many devices, and whether anything of it grows that should not.

    python benchmarks/edge_load.py [--devices 200] [--minutes 10] [--out FILE]
    python benchmarks/edge_load.py --soak [--minutes 10] [--out FILE]

A server in a process of its own with TLS, signatures, synced files and a lesson that does almost nothing; devices in
two more processes that do on the wire what `stillhouse edge join` does, with a clone of 400 kB. Under load each trains
for 30 to 90 seconds, beats every 5 to 10, returns, and asks until the return has taught; a run of less than four
minutes shortens all of it. In the soak four devices borrow and return without a pause, and the server's memory, files,
descriptors and database are watched; rises are those of a straight line through the second half. Clients and server
share the machine.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch

from load_devices import Habits, Measured, take_part
from load_server import Beside, server_beside
from stillhouse.edge.service.leases import LeaseConfig
from stillhouse.edge.service.rates import WebConfig
from timing import Bar, Row, Table, parser, prepare, report

HEARTBEAT, ERRORS = Bar(0.25), Bar(0)
PROCESSES = 2
KILOBYTES = 400
SOAKING = 4
SAMPLES = 60
SHOWN = 10


def load(folder: Path, devices: int, seconds: float) -> list[Table]:
    """Measure a fleet that behaves."""
    shorter = min(1.0, seconds / 240)  # so that visits end within a short run
    training, beat = (30.0 * shorter, 90.0 * shorter), (5.0 * shorter, 10.0 * shorter)
    habits = Habits(training=training, beat=beat, poll=2.0, seconds=seconds, spread=30.0 * shorter)
    began = os.getloadavg()
    with server_beside(folder, KILOBYTES, devices, LeaseConfig(max_clones=2 * devices)) as server:
        used, waited, measured = server.processor_seconds(), server.waiting_seconds(), Measured()
        with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
            parts = [server.invitations[part::PROCESSES] for part in range(PROCESSES)]
            for found in pool.map(take_part, parts, [habits] * PROCESSES):
                measured.add(found)
        used, waited = server.processor_seconds() - used, server.waiting_seconds() - waited
        memory = server.memory()
    errors = sum(measured.errors.values())
    rows = [
        percentiles("heartbeat", measured.beats, HEARTBEAT),
        percentiles("lease, model and return", measured.visits),
        percentiles("return until it is seen to have taught", measured.taught),
        percentiles("the devices' own lateness", measured.lags),
    ]
    about: Row = {
        "devices": devices,
        "seconds": seconds,
        "requests a second": measured.requests / seconds,
        "errors": errors,
        "bar": ERRORS.judge(errors),
        "server's processor": f"{used / seconds:.0%} of a core",
        "and waited for one": f"{waited / seconds:.0%} of the time",
        "server's memory, MB": memory / 1e6,
        "load of the machine, before / after": f"{began[0]:.1f} / {os.getloadavg()[0]:.1f}",
    }
    wrong: list[Row] = [{"error": error, "times": count} for error, count in measured.errors.most_common(10)]
    tables = [Table("under load, seconds on the wall", rows), Table("the load", [about])]
    return tables + ([Table("errors", wrong)] if wrong else [])


def percentiles(what: str, seconds: Sequence[float], bar: Bar | None = None) -> Row:
    """Median, 99th percentile and the slowest."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    judged = bar.judge(cuts[98]) if bar else ""
    return {
        "what": what,
        "times": len(seconds),
        "p50": cuts[49],
        "p99": cuts[98],
        "slowest": max(seconds),
        "bar": judged,
    }


@dataclass(frozen=True)
class Sample:
    """The server at one moment."""

    minute: float
    returns: int
    memory: float
    """MB."""
    files: int
    descriptors: int
    database: float
    """MB."""
    remembered: int
    """Numbers used once."""

    @classmethod
    def of(cls, server: Beside, began: float) -> "Sample":
        """As it is now."""
        returns, remembered = server.rows()
        return cls(
            minute=(time.monotonic() - began) / 60,
            returns=returns,
            memory=server.memory() / 1e6,
            files=server.files(),
            descriptors=server.descriptors(),
            database=server.database_bytes() / 1e6,
            remembered=remembered,
        )


def soak(folder: Path, seconds: float) -> list[Table]:
    """Watch a server that lends and takes back without a pause."""
    habits = Habits(training=(0.0, 0.0), beat=(1.0, 1.0), poll=0.02, seconds=seconds, spread=0.0)
    unbounded = WebConfig(requests_per_second=1e6, burst=10**6)
    with (
        server_beside(folder, KILOBYTES, SOAKING, LeaseConfig(), unbounded) as server,
        ProcessPoolExecutor(1, get_context("spawn")) as pool,
    ):
        began, samples = time.monotonic(), list[Sample]()
        found = pool.submit(take_part, server.invitations, habits)
        while not found.done():
            samples.append(Sample.of(server, began))
            time.sleep(seconds / SAMPLES)
        measured = found.result()
    step = max(1, len(samples) // SHOWN)
    rows: list[Row] = [dict(vars(sample)) for sample in samples[::step]]
    rises = [rise(samples, name) for name in ("memory", "files", "descriptors", "database")]
    errors = sum(measured.errors.values())
    about = percentiles("lease, model and return", measured.visits) | {"errors": errors, "bar": ERRORS.judge(errors)}
    title = f"{seconds:.0f} s of visits without a pause, seconds on the wall"
    return [Table("soak: the server over time", rows), Table("rises", rises), Table(title, [about])]


def rise(samples: Sequence[Sample], name: str) -> Row:
    """Slope of a straight line through the second half of the samples."""
    later = samples[len(samples) // 2 :]
    values = [float(getattr(sample, name)) for sample in later]
    hour = statistics.linear_regression([sample.minute / 60 for sample in later], values).slope
    thousand = statistics.linear_regression([sample.returns / 1000 for sample in later], values).slope
    return {"what": name, "last": values[-1], "an hour": hour, "a thousand returns": thousand}


def main() -> None:
    """Measure and print."""
    options = parser(__doc__ or "", 1)
    options.add_argument("--soak", action="store_true", help="borrow and return without a pause")
    options.add_argument("--devices", type=int, default=200, help="under load (%(default)s)")
    options.add_argument("--minutes", type=float, default=10.0)
    given = options.parse_args()
    prepare()
    with tempfile.TemporaryDirectory() as place:
        folder, seconds = Path(place) / "state", 60 * given.minutes
        tables = soak(folder, seconds) if given.soak else load(folder, given.devices, seconds)
    report(tables, torch.device("cpu"), given.out)


if __name__ == "__main__":
    main()
