"""SimCLRv2 at few labels: what pretraining, fine-tuning and distillation add to a classifier; several seeds.

    python benchmarks/few_labels.py --data train.parquet --test test.parquet --runs runs/few --out results.json

Every seed draws its own labelled images, and every contestant knows the same ones. Runs that are there already are not
repeated, so the command may be stopped and called again. About a quarter of an hour per seed on a busy core.
"""

import argparse
import datetime as dt
import json
import platform
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from comparison import QUICK, parser, table
from stillhouse.recipes.directory import Run
from stillhouse.recipes.judging import evaluate_run
from stillhouse.recipes.run import resume, train

CONTESTANTS = ("labels only", "fine-tuned", "distilled", "distilled, labels too")
SMALL = {"encoder.name": "cnn_micro"}
PLAIN = {"encoder.mean": [0.0, 0.0, 0.0], "encoder.std": [1.0, 1.0, 1.0]}
EVERY: dict[str, Any] = {"training.device": "cpu", "training.health_steps": 0, "evaluation.every": 0}
PRETRAIN = SMALL | EVERY | {
    "training.epochs": 10,
    "training.batch_size": 256,
    "training.warmup_epochs": 1,
    "training.optimizer": "adamw",
    "training.learning_rate": 1e-3,
    "training.weight_decay": 0.01,
    "method.temperature": 0.2,
}  # fmt: skip
TUNE = EVERY | {"training.steps": 300}
DISTILL = SMALL | EVERY | {
    "training.epochs": 10,
    "training.batch_size": 128,
    "training.warmup_epochs": 0.5,
    "training.optimizer": "adamw",
    "training.learning_rate": 2e-3,
    "training.weight_decay": 0.01,
}  # fmt: skip


def runs_of(folder: Path, seed: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """Recipe and settings of every run of a seed, in an order in which each finds what it begins from."""
    at = {name: str(folder / f"{name}-{seed}") for name in ("pretrain", "finetune")}
    teacher = {"teacher.source": at["finetune"]}
    return {
        "pretrain": ("simclrv2-pretrain", PRETRAIN),
        "labels": ("simclrv2-finetune", SMALL | PLAIN | TUNE | {"method.head_layer": 0}),
        "finetune": ("simclrv2-finetune", TUNE | {"start.source": at["pretrain"]}),
        "distill": ("simclrv2-distill", DISTILL | teacher),
        "mixed": ("simclrv2-distill", DISTILL | teacher | {"method.label_weight": 0.5}),
    }


def accuracies(seed: int, arguments: argparse.Namespace) -> list[float]:
    """Accuracy of every contestant's classifier on the whole test set, trained first where it has to be."""
    torch.set_num_threads(arguments.threads)
    common = {
        "data.limit": arguments.limit,
        "data.labelled": arguments.labels,
        "data.seed": seed,
        "training.seed": seed,
    }
    found = []
    for name, (recipe, settings) in runs_of(arguments.runs, seed).items():
        run = Run(arguments.runs / f"{name}-{seed}")
        if not run.evaluation_file.exists():
            if run.checkpoints.last.exists():
                resume(run.folder)
            else:
                train(recipe, arguments.data, run.folder, common | settings | dict(arguments.settings))
            evaluate_run(run.folder, arguments.test, settings={**QUICK, "evaluation.alignment_images": 0})
        found += [entry["accuracy"] for entry in results(run) if entry["protocol"] == "classifier"]
    return found


def results(run: Run) -> list[Mapping[str, Any]]:
    """What the evaluation of a run found."""
    return list(json.loads(run.evaluation_file.read_text())["results"])


def main() -> None:
    """Train and judge whatever is missing, print the table, write the file."""
    options = parser(__doc__ or "")
    options.add_argument("--labels", default="1%", help="labels that are known: a share or a number")
    options.add_argument("--limit", type=int, default=0, help="training images used; 0 uses all")
    arguments = options.parse_args()
    seeds = range(arguments.seeds)
    with ProcessPoolExecutor(arguments.jobs, get_context("spawn")) as pool:
        found = list(pool.map(accuracies, seeds, [arguments] * len(seeds)))
    scores = {name: [[values[place]] for values in found] for place, name in enumerate(CONTESTANTS)}
    hardware = f"{platform.processor() or platform.machine()}, {arguments.threads} threads, torch {torch.__version__}"
    known = f"{arguments.limit or 'all'} images, {arguments.labels} of the labels"
    print(f"{dt.date.today()}, {hardware}, {known}, accuracy in %, mean ± deviation of {arguments.seeds} seeds")
    print("\n".join(table(scores, ["accuracy"])))
    if arguments.out:
        record = {"date": str(dt.date.today()), "hardware": hardware, "known": known, "accuracy": scores}
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
