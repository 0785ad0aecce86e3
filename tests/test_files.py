"""Writing without losing."""

import os
from pathlib import Path
from typing import BinaryIO

import pytest

from stillhouse.errors import RunError
from stillhouse.files import cache_directory, link_atomically, write_atomically


def test_text_bytes_and_writers(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    write_atomically(path, "text é")
    assert path.read_text(encoding="utf-8") == "text é"
    write_atomically(path, b"bytes")
    assert path.read_bytes() == b"bytes"
    write_atomically(path, lambda file: file.write(b"written"))
    assert path.read_bytes() == b"written"
    assert os.listdir(path.parent) == ["file"]


@pytest.mark.parametrize("problem", [OSError(28, "No space left on device"), RuntimeError("unexpected pos")])
def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path, problem: Exception) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")

    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise problem

    with pytest.raises(RunError, match=r"file: cannot be written"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_an_interruption_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")

    def interrupt(file: BinaryIO) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, interrupt)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_real_full_disk() -> None:
    with pytest.raises(RunError, match="cannot be written"):
        write_atomically(Path("/dev/full/file"), "x")


def test_links_share_bytes_and_survive_a_new_write(tmp_path: Path) -> None:
    last, best = tmp_path / "last", tmp_path / "best"
    write_atomically(last, "one")
    link_atomically(last, best)
    assert last.stat().st_ino == best.stat().st_ino
    write_atomically(last, "two")
    assert best.read_text() == "one"
    link_atomically(last, best)
    assert best.read_text() == "two"


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLHOUSE_CACHE", "/somewhere")
    assert cache_directory() == Path("/somewhere")
    monkeypatch.delenv("STILLHOUSE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/users")
    assert cache_directory() == Path("/users/stillhouse")
