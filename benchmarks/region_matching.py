"""Does matching regions restore correspondence? EsViT's view loss alone, and with its region loss, equal otherwise.

    python benchmarks/region_matching.py --data train.parquet --test test.parquet --runs runs/regions --out results.json

Prints k-NN accuracy of every depth, then how well regions find their places in changed copies of test images. Runs that
are there already are not repeated, so the command may be stopped and called again.
"""

import argparse
import json
from collections.abc import Iterable
from typing import Any

from comparison import Settings, compare, parser, spread
from stillhouse.recipes.directory import Run

BUDGET: dict[str, Any] = {
    "data.limit": 10_000,
    "encoder.name": "swin_nano",
    "encoder.patch_size": 4,  # of 32 px: 4 x 4 regions in large views, 2 x 2 in small ones
    "method.num_prototypes": 1024,
    "method.hidden_dim": 256,
    "method.momentum": 0.99,
    "method.teacher_temperature": 0.04,  # at 0.07 all prototypes become alike in so short a training
    "method.views.views": [
        {"count": 2, "min_area": 0.4, "blur": 0.0},
        {"count": 2, "min_area": 0.1, "max_area": 0.4, "blur": 0.0, "size_fraction": 0.5},
    ],
    "training.epochs": 30,
    "training.warmup_epochs": 1,
    "training.batch_size": 128,
    "training.learning_rate": 1e-3,
    "training.device": "cpu",
    "evaluation.every": 0,
    "evaluation.untrained": True,
    "evaluation.correspondence_images": 2_000,
}
CONTESTANTS: dict[str, Settings] = {
    "views": BUDGET | {"method.region_start": 1.0},
    "views-and-regions": BUDGET,
}


def main() -> None:
    """Compare both, and print what they make of regions."""
    arguments = parser(__doc__ or "").parse_args()
    compare({name: ("esvit", settings) for name, settings in CONTESTANTS.items()}, arguments)
    print("\n".join(correspondence_table(arguments)))


def correspondence_table(arguments: argparse.Namespace) -> list[str]:
    """Mean and standard deviation over seeds, a row for each contestant and for networks that never learnt."""
    lines = ["", "| regions of | right pairs in % | pixels apart | cosine of the tenth |", "|---|---|---|---|"]
    found = {name: [_read(arguments, name, seed) for seed in range(arguments.seeds)] for name in CONTESTANTS}
    for name, runs in found.items():
        lines.append(_row(name, (run["encoder"] for run in runs)))
    return [*lines, _row("untrained", (run["untrained"] for run in found["views"]))]


def _row(name: str, found: Iterable[dict[str, float]]) -> str:
    runs = list(found)
    cells = [[100 * run["accuracy"] for run in runs], [run["distance"] for run in runs]]
    return f"| {name} | {' | '.join(map(spread, [*cells, [run['similarity'] for run in runs]]))} |"


def _read(arguments: argparse.Namespace, name: str, seed: int) -> dict[str, dict[str, float]]:
    file = Run(arguments.runs / f"{name}-{seed}").evaluation_file
    return dict(json.loads(file.read_text())["correspondence"])


if __name__ == "__main__":
    main()
