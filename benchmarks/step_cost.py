"""What a step costs beyond its networks: `stillhouse.train` as it is, over the bare step of the same networks.

    python benchmarks/step_cost.py --data URI [--out FILE]

The run makes views, calls encoder and head, computes the loss, takes the optimizer step and writes its log. The bare
step is forward, backward and fused optimizer of the same encoder on fixed views, in the same precision and layout; for
SEED, the forward pass of its frozen teacher, too. The step by hand is the run's own views, method and optimizer in the
shortest loop there is, which leaves the run's bookkeeping for comparison. All take turns, step by step on a CPU and ten
steps at a time on a GPU.

The nano transformer, whose images cost as much as its network, has its bar in float32. In bfloat16, in which it is
trained where the processor has it, the bare step is nearly twice as fast while the images cost what they did.

The second table is what a long queue costs: a whole SEED step with 65,536 rows over the same step with as many as the
batch has images.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

import stillhouse
from steps import bare_step, batches_of, lasting, method_step, prepared
from stillhouse.networks.build import EncoderConfig, build_encoder
from stillhouse.networks.saved import save_encoder
from timing import Bar, Row, Table, Turns, measure, parser, prepare, ratio, report


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
    teacher: str = ""
    """Network that teaches, with random weights; empty for none."""


CASES = (
    Case("vit_micro", "simclr", "vit_micro", 0, 256, 1024, 8, 1.03, 1.35),
    Case("resnet18, CIFAR stem", "simclr-resnet18", "resnet18", 0, 64, 512, 8, 1.02, 1.10),
    Case("vit_nano, patch 8, float32", "simclr", "vit_nano", 8, 256, 4096, 60, 1.35, 2.0, "fp32"),
    Case("vit_nano, patch 8", "simclr", "vit_nano", 8, 256, 4096, 60, 0, 0),
    Case("SEED: resnet10 from resnet18", "seed", "resnet10", 0, 256, 1024, 8, 1.08, 1.08, "auto", "resnet18"),
)
SKIPPED, BOOKKEEPING = 2, Bar(1.03)
QUEUE, QUEUE_BAR = 65_536, Bar(1.05)
QUEUE_SIZES = ((32, 256), (224, 64))
"""Image sizes, and batches that a small memory holds; the share of the queue hardly depends on the batch."""


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
    with tempfile.TemporaryDirectory() as folder:
        if case.teacher:
            settings["teacher.source"] = untrained(case.teacher, Path(folder) / "teacher")
        run = prepared(case.recipe, data, settings)
        settings = dict(lasting(together * (rounds * case.steps // 8 + SKIPPED), len(run.store), settings))
        turns = Turns({"bare": bare_step(run), "by hand": method_step(run, batches_of(run))}, device, SKIPPED)
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


def compare_queues(data: str, rounds: int, image_size: int, batch_size: int, device: torch.device) -> Row:
    """Time SEED's step of a ResNet-18 with a long queue and with a short one."""
    with tempfile.TemporaryDirectory() as folder:
        shared = {
            "teacher.source": untrained("resnet18", Path(folder), image_size),
            "encoder.name": "resnet18",
            "encoder.image_size": image_size,
            "training.batch_size": batch_size,
            "data.limit": 2 * batch_size,
        }
        steps = {}
        for name, size in (("short", batch_size), ("long", QUEUE)):
            run = prepared("seed", data, {**shared, "method.queue_size": size})
            steps[name] = method_step(run, batches_of(run))
    times = measure(steps, rounds, device)
    cost = ratio(times["long"], times["short"])
    return {
        "student and teacher": f"resnet18, {image_size} px",
        "B": batch_size,
        "runs in": f"{run.recipe.training.precision}, {run.recipe.training.memory_format}",
        "short queue, s": min(times["short"]),
        "long queue, s": min(times["long"]),
        "long / short": cost,
        "bar": QUEUE_BAR.judge(cost),
        "rounds": str(rounds),
    }


def untrained(name: str, folder: Path, image_size: int = 32) -> str:
    """Folder of a network with random weights, that can teach."""
    config = EncoderConfig(name=name, image_size=image_size).fit(image_size)
    save_encoder(folder, build_encoder(config, seed=0), config, {})
    return str(folder)


def main() -> None:
    """Measure, print, and write where asked."""
    arguments = parser("Time a step against the bare step of its networks.", rounds=8)
    arguments.add_argument("--data", required=True, help="URI of images of about 32 pixels")
    arguments.add_argument("--only", default="", help="only cases whose name contains this")
    chosen = arguments.parse_args()
    device = prepare()
    rows = [compare(case, chosen.data, chosen.rounds, device) for case in CASES if chosen.only in case.name]
    tables = [Table("A step over the bare step of its networks (SimCLR unless it says SEED)", rows)] if rows else []
    if chosen.only in "queue":
        queues = [compare_queues(chosen.data, chosen.rounds, *size, device) for size in QUEUE_SIZES]
        tables.append(Table(f"A SEED step with a queue of {QUEUE:,} rows over one with a short queue", queues))
    report(tables, device, chosen.out)


if __name__ == "__main__":
    main()
