"""Does the verdict without labels rank runs as their labels would? Good, short, collapsed and misguided ones.

    python benchmarks/verdict.py --data train.parquet --test test.parquet --runs runs/verdict --out results.json

Prints for every run the linear accuracy of its last block, the score of the verdict and its level; then Spearman's rank
correlation of both, over all runs and within each kind of encoder. Runs that are there already are not repeated, so the
command may be stopped and called again. About 40 minutes on one core.
"""

import argparse
import datetime as dt
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from scipy.stats import spearmanr

from comparison import SHORT, parser
from stillhouse.errors import TrainingError
from stillhouse.recipes.directory import Run
from stillhouse.recipes.judging import evaluate_run
from stillhouse.recipes.run import resume, train
from timing import processor

BUDGET: dict[str, Any] = dict(SHORT) | {"data.limit": 10_000, "training.health_steps": 0, "training.epochs": 10}
CNN = BUDGET | {"encoder.name": "cnn_micro", "training.weight_decay": 0.01}
VIT = BUDGET | {"encoder.name": "vit_micro", "encoder.patch_size": 8}
LITTLE: dict[str, Any] = {"count": 2, "min_area": 1.0, "aspect": [1.0, 1.0], "blur": 0.0, "grayscale": 0.0}
UNCHANGED = {"method.views.views": [LITTLE | {"jitter": 0.0, "flip": 0.0}]}
CROPS = {"method.views.views": [LITTLE | {"min_area": 0.2, "jitter": 0.0}]}
COLOURS = {"method.views.views": [LITTLE | {"jitter": 0.8, "grayscale": 0.2}]}


def lasting(epochs: int) -> dict[str, Any]:
    """A training of so many epochs."""
    return {"training.epochs": epochs}


def at_rate(rate: float) -> dict[str, Any]:
    """A learning rate."""
    return {"training.learning_rate": rate}


def as_warm(temperature: float) -> dict[str, Any]:
    """A temperature of the contrast."""
    return {"method.temperature": temperature}


RUNS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "cnn, 1 epoch": ("simclr", CNN | lasting(1)),
    "cnn, 3 epochs": ("simclr", CNN | lasting(3)),
    "cnn, 10 epochs": ("simclr", CNN),
    "cnn, 30 epochs": ("simclr", CNN | lasting(30)),
    "cnn, views alike": ("simclr", CNN | UNCHANGED),
    "cnn, crops only": ("simclr", CNN | CROPS),
    "cnn, colours only": ("simclr", CNN | COLOURS),
    "cnn, temperature 0.01": ("simclr", CNN | as_warm(0.01)),
    "cnn, temperature 1": ("simclr", CNN | as_warm(1.0)),
    "cnn, temperature 20": ("simclr", CNN | as_warm(20.0)),
    "cnn, rate 1e-6": ("simclr", CNN | at_rate(1e-6)),
    "cnn, rate 0.3": ("simclr", CNN | at_rate(0.3)),
    "cnn, 300 images": ("simclr", CNN | lasting(100) | {"data.limit": 300}),
    "cnn, sdssl": ("sdssl-simclr", CNN),
    "cnn, byol": ("byol", CNN | {"method.momentum": 0.98}),
    "cnn, byol, rate 0.1": ("byol", CNN | at_rate(0.1) | {"method.momentum": 0.0}),
    "cnn, mocov3": ("mocov3", CNN | {"method.momentum": 0.98}),
    "cnn, dino": ("dino", CNN | {"method.momentum": 0.98, "method.num_prototypes": 512}),
    "cnn, dino, teacher 0.5": (
        "dino",
        CNN | {"method.momentum": 0.98, "method.num_prototypes": 512, "method.teacher_temperature": 0.5},
    ),
    "vit, 1 epoch": ("simclr", VIT | lasting(1)),
    "vit, 4 epochs": ("simclr", VIT | lasting(4)),
    "vit, 12 epochs": ("simclr", VIT | lasting(12)),
    "vit, views alike": ("simclr", VIT | UNCHANGED | lasting(4)),
    "vit, temperature 20": ("simclr", VIT | as_warm(20.0) | lasting(4)),
}
EVALUATION = {"evaluation.linear_protocol": "ridge", "data.limit": 5_000}


@dataclass(frozen=True)
class Judged:
    """One run: what labels say of it, and what is said without."""

    linear: float
    """Accuracy of the linear probe on the last block."""
    knn: float
    score: float
    level: str


def judged(name: str, arguments: argparse.Namespace) -> Judged | None:
    """Train and evaluate a run, if it is not there yet; nothing where training itself broke down."""
    recipe, settings = RUNS[name]
    run = Run(arguments.runs / "-".join(re.findall(r"[a-z0-9.-]+", name)))
    try:
        if run.checkpoints.last.exists():
            resume(run.folder)
        else:
            train(recipe, arguments.data, run.folder, {**settings, **dict(arguments.settings)})
    except TrainingError as error:
        print(f"{name}: {error}")
        return None
    if not run.evaluation_file.exists():
        evaluate_run(run.folder, arguments.test, settings=EVALUATION)
    found = json.loads(run.evaluation_file.read_text())
    last = {r["protocol"].partition("(")[0]: r["accuracy"] for r in found["results"] if r["subject"] == "encoder"}
    return Judged(last["linear"], last["knn"], found["verdict"]["score"], found["verdict"]["level"])


def correlations(found: Mapping[str, Judged]) -> list[str]:
    """Spearman's, of the score with linear and k-NN accuracy: over all, and within each kind of encoder."""
    lines = ["| runs | number | with linear accuracy | with k-NN |", "|---|---|---|---|"]
    for kind in ("", "cnn", "vit"):
        of_kind = [one for name, one in found.items() if name.startswith(kind)]
        scores = [one.score for one in of_kind]
        both = [spearmanr(scores, [getattr(one, by) for one in of_kind]).statistic for by in ("linear", "knn")]
        lines.append(f"| {kind or 'all'} | {len(of_kind)} | {both[0]:.3f} | {both[1]:.3f} |")
    return lines


def main() -> None:
    """Train and judge whatever is missing, print the tables, write the file."""
    options = parser(__doc__ or "")
    options.set_defaults(seeds=1)
    arguments = options.parse_args()
    torch.set_num_threads(arguments.threads)
    found = {name: one for name in RUNS if (one := judged(name, arguments)) is not None}
    hardware = f"{processor()}, {arguments.threads} threads, torch {torch.__version__}"
    print(
        f"{dt.date.today()}, {hardware}; last block; 5,000 images to learn from and as many to test, 1,000 to recognise"
    )
    print("| run | linear, % | k-NN, % | score | level |\n|---|---|---|---|---|")
    for name, one in sorted(found.items(), key=lambda item: -item[1].linear):
        print(f"| {name} | {100 * one.linear:.1f} | {100 * one.knn:.1f} | {one.score:.3f} | {one.level} |")
    print("\n" + "\n".join(correlations(found)))
    if arguments.out:
        record = {"date": str(dt.date.today()), "hardware": hardware, "runs": {k: vars(v) for k, v in found.items()}}
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
