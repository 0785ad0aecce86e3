"""Images per second as shipped: `stillhouse.train` with a shipped recipe, and LightlySSL's documented SimCLR example.

    python benchmarks/out_of_the_box.py --data URI [--out FILE]        (pip install lightly)

Both train the same encoder on the same JPEG images at the same batch size and take turns, step by step. Nobody tunes
anything: number format, memory layout, optimizer, head and data path are what each brings along.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

import stillhouse
from lightly_loop import lightly_batches, lightly_step
from steps import lasting, prepared
from stillhouse.networks.build import build_encoder
from timing import Bar, Row, Table, Turns, parser, prepare, ratio, report


@dataclass(frozen=True)
class Case:
    """A recipe, its encoder, the batch size and what has to be reached."""

    name: str
    recipe: str
    encoder: str
    patch_size: int
    batch_size: int
    rounds: int
    bar: float


CASES = (
    Case("resnet18, CIFAR stem", "simclr-resnet18", "resnet18", 0, 64, 6, 2.0),
    Case("vit_nano, patch 8", "simclr", "vit_nano", 8, 256, 30, 2.5),
)
SKIPPED = 2


def compare(case: Case, data: str, rounds: int, device: torch.device) -> Row:
    """Time one case."""
    together = 10 if device.type == "cuda" else 1
    images = 8 * case.batch_size
    settings = {
        "encoder.name": case.encoder,
        "encoder.patch_size": case.patch_size,
        "training.batch_size": case.batch_size,
        "training.log_steps": together,
        "data.limit": images,
    }
    recipe = prepared(case.recipe, data, settings).recipe
    encoder = build_encoder(recipe.encoder, recipe.training.seed)
    batches = lightly_batches(data, encoder.image_size, images, case.batch_size, blur=0.0)
    turns = Turns({"lightly": lightly_step(encoder, batches, device)}, device, SKIPPED)
    settings = dict(lasting(together * (rounds * case.rounds // 6 + SKIPPED), images, settings))
    with tempfile.TemporaryDirectory() as folder:
        stillhouse.train(case.recipe, data, Path(folder) / "run", settings, listeners=[turns])
    faster = ratio(turns.times["lightly"], turns.times["run"])
    return {
        "encoder": case.name,
        "B": case.batch_size,
        "stillhouse, images/s": case.batch_size / min(turns.times["run"]),
        "lightly, images/s": case.batch_size / min(turns.times["lightly"]),
        "times faster": faster,
        "bar": Bar(case.bar, at_most=False).judge(faster),
        "stillhouse chose": f"{recipe.training.precision}, {recipe.training.memory_format}",
    }


def main() -> None:
    """Measure, print, and write where asked."""
    arguments = parser("Time shipped training against LightlySSL's example.", rounds=6)
    arguments.add_argument("--data", required=True, help="URI of images of about 32 pixels")
    chosen = arguments.parse_args()
    device = prepare()
    rows = [compare(case, chosen.data, chosen.rounds, device) for case in CASES]
    report([Table("SimCLR as shipped", rows)], device, chosen.out)


if __name__ == "__main__":
    main()
