"""`stillhouse compare`: runs side by side."""

from pathlib import Path
from typing import Annotated

import typer


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run directories, two or more, for instance runs/*.")],
    out: Annotated[Path, typer.Option("--out", help="Page to write.", metavar="FILE")] = Path("compare.html"),
) -> None:
    """Runs side by side: what they reached, what they cost, and the settings that differ."""
    from rich.console import Console
    from rich.table import Table

    from stillhouse.report.comparison import compare as write

    tables, cautions = write(runs, out)
    for found in tables:
        shown = Table(*found.heads, box=None, title=found.title, title_justify="left")
        for number, row in enumerate(found.rows):
            marked = [" *" if number in leaders else "" for leaders in found.leaders]
            shown.add_row(*(f"{value}{mark} {note}".rstrip() for (value, note), mark in zip(row, marked, strict=True)))
        Console().print(shown, markup=False)
    for sentence in cautions:
        Console().print(f"note: {sentence}", markup=False, highlight=False, soft_wrap=True)
    if any(leaders for found in tables for leaders in found.leaders):
        typer.echo("* no other run is surely better, by 95 % intervals")
    typer.echo(f"written: {out}")
