"""Do two networks learn more together? DoGo against the same two networks, each alone, on the same images as long.

    python benchmarks/peers.py --data train.parquet --test test.parquet --runs runs/peers --out results.json

Apart, both learn as in DoGo (objective, heads, views, optimizer), only that nothing passes between them. Prints k-NN
accuracy of both networks at every depth. Runs that are there already are not repeated, so the command may be stopped
and called again.
"""

import argparse
import json
from typing import Any

from comparison import QUICK, SHORT, Settings, accuracies_in, compare, parser, table
from stillhouse.recipes.directory import Run
from stillhouse.recipes.judging import evaluate_run

BUDGET: dict[str, Any] = {
    "data.limit": 10_000,
    "encoder.name": "vit_nano",
    "encoder.patch_size": 8,
    "peer.name": "vit_micro",
    "peer.patch_size": 8,
    "training.epochs": 10,
    **SHORT,
}
CONTESTANTS: dict[str, Settings] = {
    "apart": BUDGET | {"method.distillation_weight": 0.0, "method.peer_distillation_weight": 0.0},
    "together": BUDGET,
}


def main() -> None:
    """Compare both, first by the encoder, then by its peer."""
    arguments = parser(__doc__ or "").parse_args()
    compare({name: ("dogo", settings) for name, settings in CONTESTANTS.items()}, arguments)
    peers = {name: [peer_accuracies(name, seed, arguments) for seed in range(arguments.seeds)] for name in CONTESTANTS}
    print("\n".join(["", "The peer:", "", *table(peers)]))
    if arguments.out:
        record = json.loads(arguments.out.read_text())
        arguments.out.write_text(json.dumps(record | {"knn of the peer": peers}, indent=1) + "\n")


def peer_accuracies(name: str, seed: int, arguments: argparse.Namespace) -> list[float]:
    """k-NN accuracy of every depth of a run's second network."""
    run = Run(arguments.runs / f"{name}-{seed}")
    if not run.peer_evaluation_file.exists():
        evaluate_run(run.folder, arguments.test, settings=QUICK, peer=True)
    return accuracies_in(run.peer_evaluation_file)


if __name__ == "__main__":
    main()
