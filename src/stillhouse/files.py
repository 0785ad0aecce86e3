"""Writing files so that a crash, a signal or a full disk never leaves half of one."""

import hashlib
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

from stillhouse.errors import RunError

Content = bytes | str | Callable[[BinaryIO], object]


def write_atomically(path: Path, content: Content, mode: int = 0o666) -> None:
    """Replace `path` as one indivisible act: temporary name beside it, sync, rename, sync of the folder.

    Args:
        path: the file to create or replace; missing parent folders are made.
        content: bytes, text (written as UTF-8), or a function that writes to the open file.
        mode: who may read and write the file, from its first byte on; the umask is taken off.

    Raises:
        RunError: the disk is full, read-only or broken; the old file is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb", opener=partial(os.open, mode=mode)) as file:
                _write(file, content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:  # torch reports a failed write as a RuntimeError
        raise RunError(
            f"{path}: cannot be written ({error}); free space or choose another place, then resume"
        ) from error


def link_atomically(source: Path, path: Path) -> None:
    """Let `path` name the bytes of `source` without writing them again; `source` must never be edited in place.

    Raises:
        RunError: the file system refuses links and the copy that is tried then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        os.link(source, temporary)
    except OSError:
        write_atomically(path, source.read_bytes())
        return
    os.replace(temporary, path)
    sync_folder(path.parent)


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file, in hex, read block by block; `OSError` as of reading."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cache_directory() -> Path:
    """Folder for what can be made again, such as decoded images: `$STILLHOUSE_CACHE`, else the user's cache folder."""
    if chosen := os.environ.get("STILLHOUSE_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "stillhouse"


def free_bytes(folder: Path) -> int:
    """Bytes free on the disk where `folder` is, or will be."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _write(file: BinaryIO, content: Content) -> None:
    if callable(content):
        content(file)
    else:
        file.write(content.encode() if isinstance(content, str) else content)
