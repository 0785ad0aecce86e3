"""Does every shipped recipe train on real images, survive a kill, and give encoders at all depths?

    python benchmarks/every_recipe.py --data train.parquet --test test.parquet --runs runs/recipes --out results.md

Each is trained twice by the command line on small networks: once whole, once killed with SIGKILL at a random moment
and resumed. The weights must be the same to the last bit. Then every depth is judged by k-NN. The figures show that a
recipe works, not what it reaches: it sees few images a few times. Recipes that were judged before are not repeated.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from comparison import QUICK, accuracies_in
from stillhouse.networks.saved import WEIGHTS
from stillhouse.recipes.directory import Run
from stillhouse.recipes.recipe import read_recipe, shipped_recipes
from timing import Row, Table, prepare, report

SMALL = {
    "data.limit": "2000",
    "encoder.name": "vit_nano",
    "encoder.patch_size": "8",
    "training.batch_size": "100",
    "training.steps": "40",
    "training.warmup_epochs": "0.5",
    "training.optimizer": "adamw",
    "training.learning_rate": "2e-3",
    "training.weight_decay": "0.05",
    "training.checkpoint_steps": "4",
    "training.log_steps": "1",
    "training.device": "cpu",
    "evaluation.every": "0",
}
SPECIAL = {
    "demo": {"encoder.image_size": "32"},
    "esvit": {"encoder.name": "swin_nano", "encoder.patch_size": "4"},
    "dogo": {"peer.name": "vit_micro", "peer.patch_size": "8"},
}
"""What some recipes need besides."""
BEFORE = ("simclrv2-pretrain", "simclrv2-finetune")
"""Recipes that others begin from or learn from, in their order."""


def settings_of(name: str, folder: Path) -> list[str]:
    """Words of the command line that make a recipe small, and name whatever it needs from runs before it."""
    recipe = read_recipe(shipped_recipes()[name])
    changes = SMALL | SPECIAL.get(name, {})
    if name == "simclrv2-finetune":  # goes on from the encoder of a run
        changes = {key: value for key, value in changes.items() if not key.startswith("encoder.")}
        changes |= {"start.source": str(folder / "simclrv2-pretrain-whole"), "data.labelled": "10%"}
        changes |= {"training.batch_size": "50"}
    elif recipe.method.companions & {"teacher", "teachers"}:
        changes["teacher.source"] = str(folder / "simclrv2-finetune-whole")
    for part in recipe.method.parts:
        if hasattr(part.config, "queue_size"):
            changes[f"{recipe.method.key(part)}.queue_size"] = "500"
    return [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]


def command(*words: str) -> list[str]:
    """`stillhouse ...` in this Python."""
    return [sys.executable, "-m", "stillhouse", *words]


def call(*words: str) -> None:
    """Run a command to its end; what it says is shown when it fails."""
    done = subprocess.run(command(*words), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"stillhouse {' '.join(words)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")


def train_and_kill(words: list[str], run: Run) -> int:
    """Train, kill at a random moment after the first checkpoint, resume; gives the step that the kill left."""
    process = subprocess.Popen(command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not run.checkpoints.last.exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(random.uniform(0, 2))
    process.send_signal(signal.SIGKILL)
    process.wait()
    step = max((json.loads(line)["step"] for line in run.log_file.read_text().splitlines()[:-1]), default=0)
    call("resume", str(run.folder))
    return step


def judge(name: str, arguments: argparse.Namespace) -> Row:
    """Train a recipe both ways, compare, and judge every depth."""
    whole, killed = (Run(arguments.runs / f"{name}-{way}") for way in ("whole", "killed"))
    words = ["train", name, "--data", arguments.data, *settings_of(name, arguments.runs)]
    if not whole.encoder_folder.exists():
        call(*words, "--out", str(whole.folder))
    step = train_and_kill([*words, "--out", str(killed.folder)], killed)
    weights = [(run.encoder_folder / WEIGHTS).read_bytes() for run in (whole, killed)]
    quick = {**QUICK, "evaluation.alignment_images": 0}
    asked = [word for key, value in quick.items() for word in ("--set", f"{key}={str(value).lower()}")]
    call("evaluate", str(killed.folder), "--data", arguments.test, *asked)
    return {
        "recipe": name,
        "killed after step": str(step),
        "same weights": "yes" if weights[0] == weights[1] else "NO",
        "k-NN of every depth, %": " ".join(f"{100 * value:.1f}" for value in accuracies_in(killed.evaluation_file)),
    }


def main() -> None:
    """Judge all recipes, or those asked for."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", required=True, help="labelled images to learn from")
    options.add_argument("--test", required=True, help="labelled images to judge on")
    options.add_argument("--runs", type=Path, required=True, help="folder of the runs")
    options.add_argument("--out", type=Path, help="results as Markdown or JSON")
    options.add_argument("--only", nargs="+", default=[], help="names of recipes")
    arguments = options.parse_args()
    names = [*BEFORE, *(name for name in shipped_recipes() if name not in BEFORE)]
    rows: list[Row] = []
    for name in names:
        if arguments.only and name not in arguments.only:
            continue
        kept = arguments.runs / f"{name}.json"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(judge(name, arguments)))
        rows.append(json.loads(kept.read_text()))
        print(rows[-1], flush=True)
    report([Table("Every shipped recipe, small, killed and resumed", rows)], prepare(), arguments.out)


if __name__ == "__main__":
    main()
