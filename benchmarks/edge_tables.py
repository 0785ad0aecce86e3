"""Rules by which clones teach a core, on CIFAR-10: the shipped scenario with every split, several seeds.

    python benchmarks/edge_tables.py --data train.parquet --test test.parquet --runs runs/tables --out results.json

A server with 2,000 images, ten users with 1,000 each, two visits of every user; the same events, clones and bytes for
all rules. `runs/SPLIT` is what `stillhouse edge simulate` writes, with a page of its own. What was played is not played
again, so the command may be stopped and called again. About a quarter of an hour for each split on one core.
"""

import argparse
import datetime as dt
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from comparison import spread
from stillhouse.edge.simulation.running import simulate
from stillhouse.edge.simulation.scenario import find_scenario
from stillhouse.report.simulation import write
from timing import processor

SPLITS: Mapping[str, Mapping[str, Any]] = {
    "iid": {"users.split": "iid"},
    "dirichlet-1": {"users.alpha": 1.0},
    "dirichlet-0.3": {},
    "dirichlet-0.1": {"users.alpha": 0.1},
    "two-classes": {"users.split": "classes", "users.classes": 2},
}
Histories = dict[str, list[list[float]]]
"""For every rule and seed the test accuracy in % of the first core and after every lesson."""


def main() -> None:
    """Play whatever is missing, print the table, write the file."""
    arguments = options().parse_args()
    torch.set_num_threads(1)
    found: dict[str, Histories] = {}
    for split in arguments.splits:
        folder = arguments.runs / split
        images = {"data.uri": arguments.data, "data.test": arguments.test, "seeds": arguments.seeds}
        simulate(find_scenario("cifar10-skewed", {**images, **SPLITS[split]}), folder)
        write(folder)
        found[split] = read(folder, arguments.seeds)
    hardware = f"{processor()}, 1 thread, torch {torch.__version__}"
    print(f"{dt.date.today()}, {hardware}; {TOLD}, mean ± deviation of {arguments.seeds} seeds")
    print("\n".join(table(found)))
    if arguments.out:
        record = {"date": str(dt.date.today()), "hardware": hardware, "accuracy": found}
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")


TOLD = "points of test accuracy above the first core at the end / lowest on the way"


def read(folder: Path, seeds: int) -> Histories:
    """What the records of a folder say of accuracy."""
    return {
        rule.name: [history(rule / f"{seed}.jsonl") for seed in range(seeds)]
        for rule in sorted((folder / "runs").iterdir())
    }


def history(path: Path) -> list[float]:
    """Test accuracy in % of the first core and after every lesson."""
    records = map(json.loads, path.read_text().splitlines())
    return [round(100 * record["test"], 3) for record in records if record["kind"] in ("start", "lesson")]


def table(found: Mapping[str, Histories]) -> Sequence[str]:
    """A row for each rule, a column for each split."""
    rules = next(iter(found.values()))
    first = [spread([run[0] for run in histories["default"]]) for histories in found.values()]
    cells = [[rule, *(_cell(histories[rule]) for histories in found.values())] for rule in rules]
    rows = [["the first core, %", *first], *cells]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return [f"| rule | {' | '.join(found)} |", f"|{'---|' * (len(found) + 1)}", *lines]


def _cell(runs: Sequence[Sequence[float]]) -> str:
    ends, lows = ([pick(run) - run[0] for run in runs] for pick in (lambda run: run[-1], min))
    return f"{spread(ends)} / {min(lows):.1f}"


def options() -> argparse.ArgumentParser:
    """Of the command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", required=True, help="CIFAR-10's training images, or others of 32 px with labels")
    made.add_argument("--test", required=True, help="images that nothing is decided by")
    made.add_argument("--runs", type=Path, required=True, help="folder of the simulations")
    made.add_argument("--splits", nargs="+", choices=SPLITS, default=list(SPLITS))
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--out", type=Path, help="results as JSON")
    return made


if __name__ == "__main__":
    main()
