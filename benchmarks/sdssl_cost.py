"""What learning at every depth costs: a step of each SDSSL method over a step of the method it is built on.

    python benchmarks/sdssl_cost.py --data URI [--out FILE]

Both methods get the same encoder, default heads, the same fixed views and the same optimizer, and take turns.
"""

from dataclasses import dataclass
from itertools import repeat

import torch

from steps import batches_of, method_step, prepared
from timing import Bar, Row, Table, measure, parser, prepare, ratio, report

PAIRS = {"sdssl-simclr": "simclr", "sdssl-byol": "byol", "sdssl-mocov3": "mocov3"}
BAR = Bar(1.10)


@dataclass(frozen=True)
class Case:
    """An encoder and its batch size on a CPU and on a GPU."""

    encoder: str
    batch_size: int
    large_batch_size: int


CASES = (Case("vit_tiny", 32, 512), Case("vit_micro", 64, 1024))


def compare(case: Case, method: str, data: str, rounds: int, device: torch.device) -> Row:
    """One pair of methods on one encoder."""
    batch_size = case.large_batch_size if device.type == "cuda" else case.batch_size
    settings = {"encoder.name": case.encoder, "training.batch_size": batch_size, "data.limit": batch_size}
    runs = {name: prepared(name, data, settings) for name in (PAIRS[method], method)}
    batch = next(batches_of(runs[method]))
    times = measure({name: method_step(run, repeat(batch)) for name, run in runs.items()}, rounds, device)
    cost = ratio(times[method], times[PAIRS[method]])
    weights = {name: sum(p.numel() for p in run.method.parameters() if p.requires_grad) for name, run in runs.items()}
    return {
        "method": method,
        "encoder": case.encoder,
        "B": batch_size,
        "base, images/s": batch_size / min(times[PAIRS[method]]),
        "images/s": batch_size / min(times[method]),
        "step / base step": cost,
        "bar": BAR.judge(cost),
        "learning weights / base": weights[method] / weights[PAIRS[method]],
    }


def main() -> None:
    """Measure, print, and write where asked."""
    arguments = parser("Time SDSSL against its base methods.", rounds=4)
    arguments.add_argument("--data", required=True, help="URI of images of about 32 pixels")
    arguments.add_argument("--only", default="", help="only encoders or methods whose name contains this")
    chosen = arguments.parse_args()
    device = prepare()
    rows = [
        compare(case, method, chosen.data, chosen.rounds, device)
        for case in CASES
        for method in PAIRS
        if chosen.only in method or chosen.only in case.encoder
    ]
    report([Table("A step of SDSSL over a step of its base", rows)], device, chosen.out)


if __name__ == "__main__":
    main()
