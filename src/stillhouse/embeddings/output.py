"""Files that commands write: refused before the work if they cannot be, and never half there."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from stillhouse.errors import RunError, SettingsError
from stillhouse.files import write_atomically


def claim(path: Path, kinds: Sequence[str], *, force: bool) -> Path:
    """The same path, once it is known that a file may be written there.

    Args:
        path: file to write.
        kinds: endings it may have, with their dot.
        force: whether a file that is there may be replaced.

    Raises:
        SettingsError: another ending.
        RunError: it is there already, or its folder cannot be.
    """
    if path.suffix.lower() not in kinds:
        raise SettingsError(f"--out {path}: cannot be written in that form; end it in {' or '.join(kinds)}")
    if path.is_dir():
        raise RunError(f"{path}: is a folder; name a file")
    if path.exists() and not force:
        raise RunError(f"{path}: is there already; choose another --out, or add --force to replace it")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise RunError(f"{path}: cannot be written ({folder} is a file); choose another place")
    return path


def write_csv(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table with its head, decimals to six digits; `RunError` when the disk refuses."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(head)
    for row in rows:
        writer.writerow(f"{cell:.6f}" if isinstance(cell, float) else cell for cell in row)
    write_atomically(path, file.getvalue())
