"""Does a frozen teacher help? A small student alone, and the same student with a teacher, on the same images.

The budget is what passes the student: SimCLR, alone, shows it two views of an image in a step; the methods with a
teacher show it one, and go twice as often over the images. `--same-epochs` lets all go equally often over them, so that
the student with a teacher sees half as many views.

    stillhouse train simclr-quick --data train.parquet --out runs/big
    python benchmarks/frozen_teacher.py --data train.parquet --test test.parquet --teacher runs/big \
        --runs runs/students --out results.json

Runs that are there already are not repeated, so the command may be stopped and called again.
"""

from typing import Any

from comparison import SHORT, Settings, compare, parser

BUDGET: dict[str, Any] = {
    "data.limit": 10_000,
    "encoder.name": "vit_micro",
    "encoder.patch_size": 8,
    "training.epochs": 8,
    **SHORT,
}
TWO_VIEWS = ("disco",)
"""Methods with a teacher that show the student two views of an image."""


def settings_of(method: str, teacher: str, same_epochs: bool) -> Settings:
    """The same budget and optimizer for all; a queue that suits so few images."""
    if method == "simclr":
        return BUDGET
    queue = {"method.queue_size": 4096} if method in ("seed", "compress", "disco") else {}
    longer = 1 if same_epochs or method in TWO_VIEWS else 2
    return BUDGET | queue | {"teacher.source": teacher, "training.epochs": longer * BUDGET["training.epochs"]}


def main() -> None:
    """Compare the student alone with every method asked for."""
    options = parser(__doc__ or "")
    options.add_argument("--teacher", required=True, help="run directory of the teacher")
    options.add_argument("--methods", nargs="+", default=["simreg", "seed"])
    options.add_argument(
        "--same-epochs", action="store_true", help="as many epochs for all, whatever passes the student"
    )
    chosen = options.parse_args()
    names = ("simclr", *chosen.methods)
    compare({name: (name, settings_of(name, chosen.teacher, chosen.same_epochs)) for name in names}, chosen)


if __name__ == "__main__":
    main()
