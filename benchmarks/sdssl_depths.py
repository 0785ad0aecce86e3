"""SDSSL beside the method it stands on: k-NN accuracy of every depth, several seeds, same budget, data order and views.

    python benchmarks/sdssl_depths.py --data train.parquet --test test.parquet --runs runs/sdssl --out results.json

Runs that are there already are not repeated, so the command may be stopped and called again.
"""

from typing import Any

from comparison import Settings, compare, parser
from stillhouse.config import to_table
from stillhouse.data.views import asymmetric_pair_for

PAIRS = {"simclr": "sdssl-simclr", "byol": "sdssl-byol", "mocov3": "sdssl-mocov3"}
BUDGET: dict[str, Any] = {
    "data.limit": 20_000,
    "encoder.name": "vit_micro",
    "encoder.patch_size": 8,
    "training.epochs": 30,
    "training.warmup_epochs": 1,
    "training.batch_size": 128,
    "training.learning_rate": 1e-3,
    "training.device": "cpu",
    "evaluation.every": 0,
}


def settings_of(method: str) -> Settings:
    """The same settings for a method and its base, but for what only one of them has."""
    same = {"method.views": to_table(asymmetric_pair_for(32)), "method.projector_layers": 3}
    return BUDGET | same | ({} if method.endswith("simclr") else {"method.momentum": 0.99})


def main() -> None:
    """Compare every pair asked for."""
    options = parser(__doc__ or "")
    options.add_argument("--methods", nargs="+", choices=PAIRS, default=list(PAIRS))
    arguments = options.parse_args()
    names = [name for base in arguments.methods for name in (base, PAIRS[base])]
    compare({name: (name, settings_of(name)) for name in names}, arguments)


if __name__ == "__main__":
    main()
