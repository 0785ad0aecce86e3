"""What a SimCLR step costs beyond its encoder: `stillhouse.train` as it is, over the bare step of the same encoder.

    python benchmarks/step_cost.py --data URI [--out FILE]

The run makes views, calls encoder and projector, computes the loss, takes the optimizer step and writes its log. The
bare step is forward, backward and fused optimizer of the same encoder on two fixed views, in the same precision and
layout. The step by hand is the run's own views, method and optimizer in the shortest loop there is, which leaves the
run's bookkeeping for comparison. All take turns, step by step on a CPU and ten steps at a time on a GPU.

The nano transformer, whose images cost as much as its network, has its bar in float32. In bfloat16, in which it is
trained where the processor has it, the bare step is nearly twice as fast while the images cost what they did.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

import stillhouse
from steps import bare_step, batches_of, lasting, method_step, prepared
from timing import Bar, Row, Table, Turns, parser, prepare, ratio, report


@dataclass(frozen=True)
class Case:
    """A shipped recipe with an encoder, its batch size on a CPU and on a GPU, and how dear a step may be."""

    name: str
    recipe: str
    encoder: str
    patch_size: int
    batch_size: int
    large_batch_size: int
    steps: int
    bar: float
    """0 for none."""
    bar_on_gpu: float
    precision: str = "auto"


CASES = (
    Case("vit_micro", "simclr", "vit_micro", 0, 256, 1024, 8, 1.03, 1.35),
    Case("resnet18, CIFAR stem", "simclr-resnet18", "resnet18", 0, 64, 512, 8, 1.02, 1.10),
    Case("vit_nano, patch 8, float32", "simclr", "vit_nano", 8, 256, 4096, 60, 1.35, 2.0, "fp32"),
    Case("vit_nano, patch 8", "simclr", "vit_nano", 8, 256, 4096, 60, 0, 0),
)
SKIPPED, BOOKKEEPING = 2, Bar(1.03)


def compare(case: Case, data: str, rounds: int, device: torch.device) -> Row:
    """Time one case."""
    on_gpu = device.type == "cuda"
    batch_size, together = (case.large_batch_size, 10) if on_gpu else (case.batch_size, 1)
    settings = {
        "encoder.name": case.encoder,
        "encoder.patch_size": case.patch_size,
        "training.batch_size": batch_size,
        "training.precision": case.precision,
        "training.log_steps": together,
        "data.limit": 8 * batch_size,
    }
    run = prepared(case.recipe, data, settings)
    settings = dict(lasting(together * (rounds * case.steps // 8 + SKIPPED), len(run.store), settings))
    turns = Turns({"bare": bare_step(run), "by hand": method_step(run, batches_of(run))}, device, SKIPPED)
    with tempfile.TemporaryDirectory() as folder:
        stillhouse.train(case.recipe, data, Path(folder) / "run", settings, listeners=[turns])
    training, times = run.recipe.training, turns.times
    step, keeping = ratio(times["run"], times["bare"]), ratio(times["run"], times["by hand"])
    bar = case.bar_on_gpu if on_gpu else case.bar
    return {
        "encoder": case.name,
        "B": batch_size,
        "runs in": f"{training.precision}, {training.memory_format}",
        "bare, images/s": batch_size / min(times["bare"]),
        "run, images/s": batch_size / min(times["run"]),
        "run / bare": step,
        "bar": Bar(bar).judge(step) if bar else "-",
        "of the fastest steps": min(times["run"]) / min(times["bare"]),
        "run / by hand": keeping,
        "its bar": BOOKKEEPING.judge(keeping),
        "rounds": str(len(times["run"])),
    }


def main() -> None:
    """Measure, print, and write where asked."""
    arguments = parser("Time a SimCLR step against the bare step of its encoder.", rounds=8)
    arguments.add_argument("--data", required=True, help="URI of images of about 32 pixels")
    arguments.add_argument("--only", default="", help="only cases whose name contains this")
    chosen = arguments.parse_args()
    device = prepare()
    rows = [compare(case, chosen.data, chosen.rounds, device) for case in CASES if chosen.only in case.name]
    report([Table("A SimCLR step over the bare step of its encoder", rows)], device, chosen.out)


if __name__ == "__main__":
    main()
