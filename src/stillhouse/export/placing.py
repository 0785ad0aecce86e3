"""A folder that appears whole or not at all."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stillhouse.errors import RunError, SettingsError
from stillhouse.files import sync_folder
from stillhouse.networks.saved import CARD


@contextmanager
def placed(out: Path, *, force: bool = False) -> Iterator[Path]:
    """A new folder beside `out` to write into; without an error it is then synced and renamed to `out`.

    Args:
        out: folder to make; parents are made, too.
        force: replace an earlier export.

    Raises:
        SettingsError: `out` exists, and is not to be or not a thing to be replaced.
        RunError: the disk is full, read-only or broken; `out` is as it was.
    """
    check_free(out, force=force)
    temporary, old = (out.with_name(f".{out.name}.{os.getpid()}.{kind}") for kind in ("tmp", "old"))
    try:
        try:
            temporary.mkdir(parents=True)
            yield temporary
            _sync(temporary)
            if out.exists():
                os.replace(out, old)
            os.replace(temporary, out)
            sync_folder(out.parent)
        finally:
            if old.exists() and not out.exists():
                os.replace(old, out)
            for rest in (temporary, old):
                shutil.rmtree(rest, ignore_errors=True)
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error}); free space or choose another place") from error


def check_free(out: Path, *, force: bool) -> None:
    """Raise `SettingsError` unless an export may be placed at `out`."""
    if out.suffix in {".onnx", ".pt2", ".safetensors"}:
        raise SettingsError(f"out: {out} looks like a file; name a folder, for instance {out.with_suffix('')}")
    if not (out.exists() or out.is_symlink()) or (out.is_dir() and not out.is_symlink() and not any(out.iterdir())):
        return
    if not force:
        raise SettingsError(f"out: {out} exists; choose another place, or pass --force to replace an earlier export")
    if out.is_symlink() or not is_export(out):
        raise SettingsError(
            f"out: {out} is not an earlier export, so --force does not replace it; choose another place"
        )


def is_export(folder: Path) -> bool:
    """Whether a folder is what an export made: its card tells a format."""
    try:
        card = json.loads((folder / CARD).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(card, dict) and "format" in card


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
    sync_folder(folder)
