"""Ways of training beside each other: k-NN accuracy of every depth, several seeds, same budget and data order."""

import argparse
import datetime as dt
import json
import statistics
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from stillhouse.config import parse_assignment
from stillhouse.recipes.directory import Run
from stillhouse.recipes.judging import evaluate_run
from stillhouse.recipes.run import resume, train
from timing import processor

Settings = Mapping[str, Any]
Scores = dict[str, list[list[float]]]
"""For every contestant and seed, the accuracy of every depth."""


SHORT: Settings = {
    "training.warmup_epochs": 1,
    "training.batch_size": 128,
    "training.optimizer": "adamw",
    "training.learning_rate": 1e-3,
    "training.weight_decay": 0.1,
    "training.decay_all": False,
    "training.device": "cpu",
    "evaluation.every": 0,
}
"""A short training of a small transformer on a CPU, whatever the recipe says."""
QUICK: Settings = {"evaluation.linear": False, "evaluation.pixels": False, "evaluation.untrained": False}
"""Only the encoder, only by k-NN."""


def parser(description: str) -> argparse.ArgumentParser:
    """The options that every comparison has."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", required=True, help="images to learn from")
    made.add_argument("--test", required=True, help="labelled images to judge on")
    made.add_argument(
        "--runs", type=Path, required=True, help="folder of the runs; those that are there are not repeated"
    )
    made.add_argument("--out", type=Path, help="results as JSON")
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--jobs", type=int, default=1, help="runs side by side")
    made.add_argument("--threads", type=int, default=torch.get_num_threads())
    made.add_argument("--set", dest="settings", type=parse_assignment, action="append", default=[])
    return made


def compare(contestants: Mapping[str, tuple[str, Settings]], arguments: argparse.Namespace) -> Scores:
    """Train and judge whatever is missing, print the table, write the file.

    Args:
        contestants: for every name a shipped recipe and settings; `training.seed` is laid over them.
        arguments: of `parser`.
    """
    changes = dict(arguments.settings)
    tasks = [(name, seed) for seed in range(arguments.seeds) for name in contestants]
    jobs = [
        (contestants[name][0], {**contestants[name][1], **changes, "training.seed": seed}, f"{name}-{seed}", arguments)
        for name, seed in tasks
    ]
    with ProcessPoolExecutor(arguments.jobs, get_context("spawn")) as pool:
        found = dict(zip(tasks, pool.map(_accuracies, *zip(*jobs, strict=True)), strict=True))
    scores = {name: [found[name, seed] for seed in range(arguments.seeds)] for name in contestants}
    hardware = f"{processor()}, {arguments.threads} threads a run, torch {torch.__version__}"
    print(f"{dt.date.today()}, {hardware}, k-NN (k=20, T=0.07) in %, mean ± deviation of {arguments.seeds} seeds")
    print("\n".join(table(scores)))
    if arguments.out:
        used = {name: {"recipe": recipe, **_plain({**own, **changes})} for name, (recipe, own) in contestants.items()}
        record = {"date": str(dt.date.today()), "hardware": hardware, "settings": used, "knn": scores}
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")
    return scores


def table(scores: Scores, columns: Sequence[str] = ()) -> list[str]:
    """Mean and standard deviation over seeds, one column per depth unless named, in percent, as Markdown."""
    depths = max(len(values[0]) for values in scores.values())
    heads = ["method", *(columns or [f"depth {depth + 1}" for depth in range(depths)])]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    percent = {
        name: [[100 * score for score in depth] for depth in zip(*runs, strict=True)] for name, runs in scores.items()
    }
    return lines + [f"| {name} | {' | '.join(map(spread, depths))} |" for name, depths in percent.items()]


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):6.2f} ± {deviation:4.2f}"


def _accuracies(recipe: str, settings: Settings, name: str, arguments: argparse.Namespace) -> list[float]:
    """k-NN accuracy of every depth on the whole test set, trained first if it has to be."""
    torch.set_num_threads(arguments.threads)
    run = Run(arguments.runs / name)
    if not run.evaluation_file.exists():
        if run.checkpoints.last.exists():
            resume(run.folder)
        else:
            train(recipe, arguments.data, run.folder, settings)
        asked = {key: value for key, value in settings.items() if key.startswith("evaluation.")}
        evaluate_run(run.folder, arguments.test, settings={**QUICK, **asked})
    return accuracies_in(run.evaluation_file)


def accuracies_in(evaluation: Path) -> list[float]:
    """Of every depth of the encoder that an evaluation was of, where k-NN was the only protocol."""
    results = json.loads(evaluation.read_text())["results"]
    return [result["accuracy"] for result in results if result["subject"] == "encoder"]


def _plain(settings: Settings) -> dict[str, str]:
    return {key: str(value) for key, value in settings.items()}
