"""NT-Xent, forward and backward, beside LightlySSL's: time, extra memory at the peak, and difference.

    python benchmarks/contrastive.py [--out FILE]        (pip install lightly)

Memory is what torch's allocator held beyond the inputs at the worst moment, as its own profiler records it.
"""

import itertools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from stillhouse.losses.contrastive import nt_xent
from timing import Bar, Row, Table, measure, parser, prepare, ratio, report

try:
    from lightly.loss import NTXentLoss
except ImportError as missing:
    raise SystemExit("contrastive.py: lightly is not installed; pip install lightly") from missing

WIDTH, TEMPERATURE = 128, 0.2
SIZES = (256, 512, 1024, 2048)
FASTER, LEANER = {512: 1.8, 2048: 2.5}, {512: 0.5, 2048: 0.15}
GROWTH = Bar(2.2)
Loss = Callable[[Tensor, Tensor], Tensor]


def ours(first: Tensor, second: Tensor) -> Tensor:
    """The loss of this package."""
    return nt_xent(first, second, TEMPERATURE)


def pair(size: int, device: torch.device, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Two views' projections `[B, E]` that resemble each other."""
    generator = torch.Generator().manual_seed(size)
    first = torch.randn(size, WIDTH, generator=generator, dtype=torch.float64)
    second = first + torch.randn(size, WIDTH, generator=generator, dtype=torch.float64)
    return tuple(rows.to(device, dtype).requires_grad_() for rows in (first, second))  # type: ignore[return-value]


def run(loss: Loss, rows: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Value and gradients."""
    value = loss(*rows)
    return value.detach(), *torch.autograd.grad(value, rows)


def peak_mib(work: Callable[[], object], device: torch.device) -> float:
    """MiB that the allocator held at the worst moment beyond what it held before."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    changes = sorted((event for event in events if event.get("name") == "[memory]"), key=lambda event: event["ts"])
    held: list[Any] = [event["args"]["Total Allocated"] for event in changes]
    return float(max(held) - (held[0] - changes[0]["args"]["Bytes"])) / 2**20


def compare(size: int, rounds: int, device: torch.device) -> Row:
    """One batch size."""
    theirs, rows = NTXentLoss(temperature=TEMPERATURE), pair(size, device)
    works = {name: (lambda loss=loss: run(loss, rows)) for name, loss in (("ours", ours), ("lightly", theirs))}
    times = measure(works, rounds, device, repeats=max(1, 512 // size) ** 2)
    memory = {name: peak_mib(work, device) for name, work in works.items()}
    exact = pair(size, device, torch.float64)
    faster, leaner = ratio(times["lightly"], times["ours"]), memory["ours"] / memory["lightly"]
    return {
        "B": size,
        "ours, ms": 1e3 * min(times["ours"]),
        "lightly, ms": 1e3 * min(times["lightly"]),
        "times faster": faster,
        "bar of speed": Bar(FASTER[size], at_most=False).judge(faster) if size in FASTER else "-",
        "ours, MiB": memory["ours"],
        "lightly, MiB": memory["lightly"],
        "share of memory": leaner,
        "bar of memory": Bar(LEANER[size]).judge(leaner) if size in LEANER else "-",
        "difference in float32": difference(run(ours, rows), run(theirs, rows)),
        "in float64": difference(run(ours, exact), run(theirs, exact)),
    }


def difference(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> float:
    """Largest difference of value or gradient, relative to the largest entry."""
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, theirs, strict=True))


def growth(rows: list[Row]) -> Row:
    """How memory grows when the batch doubles."""
    factors = [float(b["ours, MiB"]) / float(a["ours, MiB"]) for a, b in itertools.pairwise(rows)]
    return {"largest growth of memory when B doubles": max(factors), "bar": GROWTH.judge(max(factors))}


def main() -> None:
    """Measure, print, and write where asked."""
    arguments = parser("Time NT-Xent against LightlySSL's.", rounds=9).parse_args()
    device = prepare()
    rows = [compare(size, arguments.rounds, device) for size in SIZES]
    title = f"NT-Xent of [B, {WIDTH}], temperature {TEMPERATURE}, forward and backward"
    report([Table(title, rows), Table("Growth", [growth(rows)])], device, arguments.out)


if __name__ == "__main__":
    main()
