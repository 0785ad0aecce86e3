"""What optimizers and the momentum teacher cost, alone and as a share of a BYOL step.

    python benchmarks/optimizers.py --data URI [--out FILE]

The teacher's in-place update is compared with the usual loop that makes new tensors, LARS with torch's own fused SGD,
and fused AdamW with torch's loop over parameters.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from itertools import repeat

import torch
from torch import nn

from steps import batches_of, method_step, prepared
from stillhouse.methods.byol import BYOL
from stillhouse.training.optimizers import make_optimizer, set_learning_rate
from timing import Bar, Row, Table, measure, parser, prepare, ratio, report

EMA, SHARE = Bar(3.0, at_most=False), Bar(0.01)


@dataclass(frozen=True)
class Case:
    """An encoder and its batch size on a CPU and on a GPU."""

    encoder: str
    batch_size: int
    large_batch_size: int


CASES = (Case("resnet18", 64, 512), Case("vit_tiny", 64, 512), Case("vit_micro", 256, 1024))


def with_gradients(module: nn.Module) -> nn.Module:
    """A copy whose learning parameters have small gradients."""
    module = copy.deepcopy(module)
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn_like(parameter) * 1e-4
    return module


def stepping(name: str, module: nn.Module) -> Callable[[], object]:
    """One step of a shipped optimizer."""
    optimizer = make_optimizer(name, with_gradients(module), weight_decay=1e-6, momentum=0.9, decay_all=False)  # type: ignore[arg-type]
    set_learning_rate(optimizer, 1e-6)
    return optimizer.step


def looping_adamw(module: nn.Module) -> Callable[[], object]:
    """torch's AdamW, parameter by parameter."""
    learning = [parameter for parameter in with_gradients(module).parameters() if parameter.grad is not None]
    return torch.optim.AdamW(learning, lr=1e-6, foreach=False, fused=False).step


def out_of_place(teacher: nn.Module, student: nn.Module) -> Callable[[], object]:
    """The moving average as it is usually written, with new tensors for every parameter."""

    @torch.no_grad()
    def follow() -> None:
        for own, other in zip(teacher.parameters(), student.parameters(), strict=True):
            own.data = own.data * 0.99 + other.data * (1.0 - 0.99)

    return follow


def compare(case: Case, data: str, rounds: int, device: torch.device) -> tuple[Row, Row]:
    """Parts alone, and their share of a whole step."""
    batch_size = case.large_batch_size if device.type == "cuda" else case.batch_size
    settings = {"encoder.name": case.encoder, "training.batch_size": batch_size, "data.limit": batch_size}
    run = prepared("byol", data, settings)
    step, method = method_step(run, repeat(next(batches_of(run)))), run.method
    assert isinstance(method, BYOL)
    learning = nn.ModuleList([method.student, method.predictor])
    parts = {
        "EMA": lambda: method.teacher.follow(method.student, 0.99),
        "EMA, new tensors": out_of_place(copy.deepcopy(method.teacher.module), method.student),
        "AdamW": stepping("adamw", learning),
        "AdamW, loop": looping_adamw(learning),
        "SGD": stepping("sgd", learning),
        "LARS": stepping("lars", learning),
    }
    times = measure(parts, 5 * rounds, device, repeats=5)
    whole = min(measure({"step": step}, rounds, device)["step"])
    cost = {name: min(seconds) for name, seconds in times.items()}
    faster, share = ratio(times["EMA, new tensors"], times["EMA"]), (cost["AdamW"] + cost["EMA"]) / whole
    size = sum(parameter.numel() for parameter in learning.parameters()) / 1e6
    alone: Row = {"encoder": case.encoder, "learning weights, millions": size}
    alone |= {f"{name}, ms": seconds * 1e3 for name, seconds in cost.items()}
    alone |= {
        "EMA in place is faster by": faster,
        "bar": EMA.judge(faster),
        "LARS / SGD": ratio(times["LARS"], times["SGD"]),
    }
    shares: Row = {"encoder": case.encoder, "B": batch_size, "step, ms": whole * 1e3}
    return alone, shares | {"AdamW and EMA / step": share, "bar": SHARE.judge(share)}


def main() -> None:
    """Measure, print, and write where asked."""
    arguments = parser("Time optimizers and the moving average.", rounds=3)
    arguments.add_argument("--data", required=True, help="URI of images of about 32 pixels")
    chosen = arguments.parse_args()
    device = prepare()
    rows = [compare(case, chosen.data, chosen.rounds, device) for case in CASES]
    tables = [
        Table("Updates alone", [alone for alone, _ in rows]),
        Table("Updates as a share of a BYOL step", [share for _, share in rows]),
    ]
    report(tables, device, chosen.out)


if __name__ == "__main__":
    main()
