"""`stillhouse demo`: learn from generated images, judge what was learnt, and write the page about it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from stillhouse.cli.tables import evaluation_table
from stillhouse.cli.terminal import Terminal, working
from stillhouse.recipes.judging import evaluate_run
from stillhouse.recipes.run import train
from stillhouse.report import write_report

TEST = "scenes#test"


def run_demo(out: Path, settings: Mapping[str, Any] | None = None) -> None:
    """Train the recipe `demo` without labels, judge every depth on scenes it never saw, and say what to do next.

    Args:
        out: run directory to make.
        settings: dotted names to values, laid over the recipe.

    Raises:
        RunError: `out` already holds a run, or cannot be written.
    """
    typer.echo("training on generated scenes; labels are only looked at to judge")
    with Terminal() as terminal:
        train("demo", out=out, settings=settings, listeners=[terminal])
    with working("evaluating") as told:
        evaluation = evaluate_run(out, TEST, progress=told)
    evaluation_table(evaluation)
    typer.echo(_farewell(out, write_report(out)))


def _farewell(out: Path, page: Path) -> str:
    steps = (
        f"open {page} in a browser: verdict, curves and every depth beside raw pixels and the untrained network",
        "stillhouse train sdssl-simclr --data YOUR_IMAGES --out runs/first",
        f'python -c "import stillhouse; print(stillhouse.load({str(out)!r}))"',
    )
    return "\n".join([f"report: {page}", "next:", *(f"  {number}. {step}" for number, step in enumerate(steps, 1))])
