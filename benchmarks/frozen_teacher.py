"""Does a frozen teacher help? A small student alone, and the same student with a teacher, on the same images as long.

    stillhouse train simclr-quick --data train.parquet --out runs/big
    python benchmarks/frozen_teacher.py --data train.parquet --test test.parquet --teacher runs/big \
        --runs runs/students --out results.json

Runs that are there already are not repeated, so the command may be stopped and called again.
"""

from typing import Any

from comparison import Settings, compare, parser

BUDGET: dict[str, Any] = {
    "data.limit": 10_000,
    "encoder.name": "vit_micro",
    "encoder.patch_size": 8,
    "training.epochs": 12,
    "training.warmup_epochs": 1,
    "training.batch_size": 128,
    "training.optimizer": "adamw",
    "training.learning_rate": 1e-3,
    "training.weight_decay": 0.1,
    "training.decay_all": False,
    "training.device": "cpu",
    "evaluation.every": 0,
}


def settings_of(method: str, teacher: str) -> Settings:
    """The same budget and optimizer for all; a queue that suits so few images."""
    queue = {"method.queue_size": 4096} if method in ("seed", "compress", "disco") else {}
    return BUDGET | queue | ({} if method == "simclr" else {"teacher.source": teacher})


def main() -> None:
    """Compare the student alone with every method asked for."""
    options = parser(__doc__ or "")
    options.add_argument("--teacher", required=True, help="run directory of the teacher")
    options.add_argument("--methods", nargs="+", default=["simreg", "seed"])
    arguments = options.parse_args()
    compare({name: (name, settings_of(name, arguments.teacher)) for name in ("simclr", *arguments.methods)}, arguments)


if __name__ == "__main__":
    main()
