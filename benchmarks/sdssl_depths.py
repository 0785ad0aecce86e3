"""SDSSL beside the method it stands on: k-NN accuracy of every depth, several seeds, same budget, data order and views.

    python benchmarks/sdssl_depths.py --data train.parquet --test test.parquet --runs runs/sdssl --out results.json

Runs that are there already are not repeated, so the command may be stopped and called again.
"""

import argparse
import datetime as dt
import json
import platform
import statistics
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from stillhouse.config import parse_assignment, to_table
from stillhouse.data.views import asymmetric_pair_for
from stillhouse.recipes.directory import Run
from stillhouse.recipes.judging import evaluate_run
from stillhouse.recipes.run import resume, train

PAIRS = {"simclr": "sdssl-simclr", "byol": "sdssl-byol", "mocov3": "sdssl-mocov3"}
BUDGET: dict[str, Any] = {
    "data.limit": 10_000,
    "encoder.name": "vit_micro",
    "encoder.patch_size": 8,
    "training.epochs": 12,
    "training.warmup_epochs": 1,
    "training.batch_size": 128,
    "training.learning_rate": 1e-3,
    "training.device": "cpu",
    "evaluation.every": 0,
}


def settings_of(method: str, seed: int, changes: dict[str, Any]) -> dict[str, Any]:
    """The same settings for a method and its base, but for what only one of them has."""
    settings = BUDGET | {"training.seed": seed} | changes
    settings["method.views"] = to_table(asymmetric_pair_for(32))
    settings["method.projector_layers"] = 3
    if not method.endswith("simclr"):
        settings["method.momentum"] = 0.99
    return settings


def accuracies(method: str, seed: int, arguments: argparse.Namespace) -> list[float]:
    """k-NN accuracy of every depth on the whole test set, trained first if it has to be."""
    torch.set_num_threads(arguments.threads)
    run = Run(arguments.runs / f"{method}-{seed}")
    if not run.evaluation_file.exists():
        if run.checkpoints.last.exists():
            resume(run.folder)
        else:
            train(method, arguments.data, run.folder, settings_of(method, seed, dict(arguments.settings)))
        quick = {"evaluation.linear": False, "evaluation.pixels": False, "evaluation.untrained": False}
        evaluate_run(run.folder, arguments.test, settings=quick)
    results = json.loads(run.evaluation_file.read_text())["results"]
    return [result["accuracy"] for result in results if result["subject"] == "encoder"]


def row(name: str, scores: Iterable[list[float]]) -> str:
    """Mean and standard deviation over seeds, one column per depth, in percent."""
    cells = []
    for depth in zip(*scores, strict=True):
        spread = statistics.stdev(depth) if len(depth) > 1 else float("nan")
        cells.append(f"{100 * statistics.mean(depth):6.2f} ± {100 * spread:4.2f}")
    return f"| {name} | " + " | ".join(cells) + " |"


def main() -> None:
    """Train what is missing, print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--set", dest="settings", type=parse_assignment, action="append", default=[])
    arguments = parser.parse_args()

    names = [name for base in arguments.methods for name in (base, PAIRS[base])]
    tasks = [(name, seed) for seed in range(arguments.seeds) for name in names]
    with ProcessPoolExecutor(arguments.jobs, get_context("spawn")) as pool:
        found = dict(zip(tasks, pool.map(accuracies, *zip(*tasks, strict=True), [arguments] * len(tasks)), strict=True))
    scores = {name: [found[name, seed] for seed in range(arguments.seeds)] for name in names}

    hardware = f"{platform.processor() or platform.machine()}, {arguments.threads} threads, torch {torch.__version__}"
    print(f"{dt.date.today()}, {hardware}, k-NN (k=20, T=0.07) in %, mean ± deviation of {arguments.seeds} seeds")
    depths = len(next(iter(scores.values()))[0])
    print("| method | " + " | ".join(f"depth {depth + 1}" for depth in range(depths)) + " |")
    print("|---" * (depths + 1) + "|")
    for name, values in scores.items():
        print(row(name, values))
    if arguments.out:
        budget = {key: str(value) for key, value in (BUDGET | dict(arguments.settings)).items()}
        record = {"date": str(dt.date.today()), "hardware": hardware, "settings": budget, "knn": scores}
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
