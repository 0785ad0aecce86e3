"""Arguments that several commands have."""

from pathlib import Path
from typing import Annotated

import typer


def named(text: str) -> Path:
    """A folder that somebody named; an empty name is a mistake, not the folder one stands in."""
    if not text:
        raise typer.BadParameter("no folder named; choose one, for instance runs/first")
    return Path(text)


RunFolder = Annotated[Path, typer.Argument(help="A run directory.")]
