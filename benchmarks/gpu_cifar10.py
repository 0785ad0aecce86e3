"""CIFAR-10 on one GPU through the public interface: accuracy, images per second and minutes.

    python benchmarks/gpu_cifar10.py --train URI --test URI [--out runs/gpu] [--part resnet18|vit]

`resnet18` trains the shipped recipe `simclr-resnet18` (200 epochs, batch 512). `vit` trains ViT-tiny with patches of 4
by MoCo v3 and by SDSSL on MoCo v3, and compares every depth. Numbers go to benchmarks/results/*.json. Started again, it
goes on where it stopped; finished runs are only judged. `--set` shortens it for a trial.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import stillhouse
from steps import bare_step, prepared
from stillhouse.errors import SettingsError, StillhouseError
from stillhouse.evaluation.config import EvaluationConfig
from stillhouse.evaluation.results import Evaluation
from timing import Bar, Row, Table, report

RESULTS = Path(__file__).parent / "results"
PROTOCOLS = ((20, 0.07), (200, 0.1))
COST, MINUTES = Bar(1.10), Bar(6.0)
VIT = {"encoder.name": "vit_tiny", "encoder.patch_size": 4}
Settings = dict[str, Any]


def trained(recipe: str, data: str, folder: Path, settings: Settings) -> stillhouse.Run:
    """A finished run; one that was begun before goes on where it stopped, and a finished one stays as it is."""
    run = stillhouse.Run(folder)
    if run.checkpoints.last.exists():
        return stillhouse.resume(folder)
    return stillhouse.train(recipe, data, folder, settings)


def neighbours(run: stillhouse.Run, train: str, test: str, device: torch.device, limit: int) -> dict[str, Evaluation]:
    """k-NN at every depth, by the name of the protocol."""
    encoder, found = run.load().to(device), {}
    for k, temperature in PROTOCOLS:
        config = EvaluationConfig(
            k=k, temperature=temperature, linear=False, pixels=False, untrained=False, alignment_images=0
        )
        judged = stillhouse.evaluate(encoder, train, test, config=config, limit=limit)
        found[judged.of("encoder", "knn")[0].protocol] = judged
    return found


def step_records(run: stillhouse.Run) -> list[dict[str, Any]]:
    """Lines of the log about steps; of repeated ones the last."""
    records = (json.loads(line) for line in run.log_file.read_text().splitlines())
    return list({record["step"]: record for record in records if record["kind"] == "step"}.values())


def speed(run: stillhouse.Run, recipe: str, data: str, settings: Settings) -> Row:
    """Images per second of the run and of its encoder's bare step, and what the run took."""
    prepared_run = prepared(recipe, data, settings)
    batch_size, device = prepared_run.recipe.training.batch_size, prepared_run.device
    bare = batch_size / seconds_per_call(bare_step(prepared_run), 20 if device.type == "cuda" else 1)
    records = step_records(run)
    reached = statistics.median(record["images_per_second"] for record in records)
    cost, minutes = bare / reached, records[-1]["seconds"] / 60
    judged = recipe == "simclr-resnet18" and records[-1]["epoch"] >= 200
    return {
        "run": recipe,
        "epochs": records[-1]["epoch"],
        "images/s": reached,
        "bare step, images/s": bare,
        "step / bare step": cost,
        "its bar": COST.judge(cost) if judged else "-",
        "minutes of training": minutes,
        "bar": MINUTES.judge(minutes) if judged else "-",
    }


def seconds_per_call(work: Callable[[], None], repeats: int) -> float:
    """Seconds on the wall, as a run's log counts them: median of five times `repeats` calls, after one in vain."""
    work()
    measured = []
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(repeats):
            work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        measured.append((time.perf_counter() - started) / repeats)
    return statistics.median(measured)


def depths(evaluations: dict[str, dict[str, Evaluation]]) -> list[Row]:
    """One row per depth, one column per run and protocol, in percent."""
    columns = {
        f"{name}, {protocol}": judged.of("encoder", "knn")
        for name, found in evaluations.items()
        for protocol, judged in found.items()
    }
    blocks = [result.block for result in next(iter(columns.values()))]
    return [
        {"block": str(block), **{name: 100 * results[place].accuracy for name, results in columns.items()}}
        for place, block in enumerate(blocks)
    ]


def part(name: str, recipes: Sequence[str], arguments: argparse.Namespace, device: torch.device) -> None:
    """Train and judge some recipes and write their numbers."""
    settings = {**(VIT if name == "vit" else {}), **chosen_settings(arguments.set)}
    speeds, evaluations = [], {}
    for recipe in recipes:
        run = trained(recipe, arguments.train, arguments.out / f"{name}-{recipe}", settings)
        limit = int(settings.get("data.limit", 0))
        evaluations[recipe] = neighbours(run, arguments.train, arguments.test, device, limit)
        speeds.append(speed(run, recipe, arguments.train, settings))
    tables = [Table(f"CIFAR-10, {name}", speeds), Table("k-NN at every depth, %", depths(evaluations))]
    report(tables, device, arguments.results / f"gpu_cifar10_{name}.json")


def chosen_settings(pairs: Sequence[str]) -> Settings:
    """`a.b=value` pairs with values as in JSON, or as words."""
    settings: Settings = {}
    for pair in pairs:
        key, found, value = pair.partition("=")
        if not found:
            raise SettingsError(f"--set {pair}: no value; write --set training.epochs=10")
        try:
            settings[key] = json.loads(value)
        except json.JSONDecodeError:
            settings[key] = value
    return settings


def main() -> None:
    """Train what is missing, judge, print, and write the results."""
    parser = argparse.ArgumentParser(description="CIFAR-10 on one GPU: SimCLR, MoCo v3 and SDSSL.")
    parser.add_argument("--train", required=True, help="URI of the 50,000 training images")
    parser.add_argument("--test", required=True, help="URI of the 10,000 test images")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder of the runs (%(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the numbers")
    parser.add_argument("--part", choices=("resnet18", "vit"), help="only this part")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=value", help="a setting of all runs")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        for name, recipes in (("resnet18", ["simclr-resnet18"]), ("vit", ["mocov3", "sdssl-mocov3"])):
            if arguments.part in (None, name):
                part(name, recipes, arguments, device)
    except StillhouseError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
