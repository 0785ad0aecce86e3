"""What is kept of a teacher's answers comes back as it was, or not at all."""

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stillhouse.data import answers
from stillhouse.data.answers import AnswerFiles
from stillhouse.errors import RunError

CPU = torch.device("cpu")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AnswerFiles:
    """Ten images in files of four."""
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(answers, "MOST_IMAGES", 4)
    return AnswerFiles({"teacher": "a"}, num_images=10, num_views=3, dim=5, dtype="fp32")


def fill(files: AnswerFiles, epochs: int = 2) -> Tensor:
    """Random answers about all images, `[E, V, N, D]`, written part by part."""
    shape = (epochs, files.num_views, files.num_images, files.dim)
    said = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    files.claim()
    for part in files.parts(epochs):
        files.write(part, said[part.epoch, :, part.start : part.stop])
    return said


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 0.0), ("fp16", 2.0**-11)])
def test_answers_are_found_by_epoch_image_and_view(dtype: Any, tolerance: float, files: AnswerFiles) -> None:
    files = replace(files, dtype=dtype)
    said = fill(files)
    replay = files.open(2, CPU, torch.float32)
    index = torch.tensor([9, 0, 4, 3, 9, 7])
    for epoch in range(2):
        found = replay(epoch, index)
        assert len(found) == 3
        for view, rows in enumerate(found):
            assert rows.dtype == torch.float32
            torch.testing.assert_close(rows, said[epoch, view, index], rtol=tolerance, atol=0)
    assert files.open(1, CPU, torch.bfloat16)(0, index)[0].dtype == torch.bfloat16


def test_a_folder_is_named_by_what_it_follows_from_and_not_by_how_much_is_in_it(files: AnswerFiles) -> None:
    others = [
        replace(files, origin={"teacher": "b"}), replace(files, num_images=11), replace(files, num_views=2),
        replace(files, dim=6), replace(files, dtype="fp16"),
    ]  # fmt: skip
    assert len({each.folder for each in (files, *others)}) == 6
    fill(files, epochs=1)
    assert [part for part in files.parts(3) if not files.is_whole(part)] == files.parts(3)[3:]


def test_a_file_that_is_not_as_it_was_written_is_noticed(files: AnswerFiles) -> None:
    fill(files)
    first, second, *_ = files.parts(1)
    whole = files.path(first).read_bytes()
    assert files.is_whole(first)
    assert len(whole) == files.num_bytes(first) == 64 + 4 * 3 * 5 * 4
    flipped = bytearray(whole)
    flipped[100] ^= 1
    for content in (b"", whole[:40], whole[:-1], whole + b"\0", bytes(flipped), files.path(second).read_bytes()):
        files.path(first).write_bytes(content)
        assert not files.is_whole(first)
    files.path(first).write_bytes(whole)
    assert files.is_whole(first)
    other = replace(files, origin={"teacher": "b"})
    other.claim()
    other.path(first).write_bytes(whole)
    assert other.is_there(first)
    assert not other.is_whole(first)


@pytest.mark.parametrize("content", [None, b"short"])
def test_answers_that_are_missing_when_they_are_wanted_are_an_error(content: bytes | None, files: AnswerFiles) -> None:
    fill(files)
    path = files.path(files.parts(2)[-1])
    path.unlink()
    if content:
        path.write_bytes(content)
    with pytest.raises(RunError, match=r"epoch-0001-images-000000008.bin cannot be read .*same cache folder"):
        files.open(2, CPU, torch.float32)


def test_a_full_disk_leaves_no_half_of_a_file(files: AnswerFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(files, epochs=1)
    part = files.parts(2)[3]
    with monkeypatch.context() as patch:

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match=r"teacher.cache: .*No space left on device.*what is filled stays filled"):
            files.write(part, torch.zeros(3, 4, 5))
    assert not files.is_there(part)
    assert sorted(path.suffix for path in files.folder.iterdir()) == [".bin", ".bin", ".bin", ".json"]


def test_a_folder_that_holds_something_else_than_its_name_says_is_refused(files: AnswerFiles) -> None:
    files.claim()
    files.claim()
    (files.folder / "about.json").write_text(files.about.replace('"a"', '"b"'))
    with pytest.raises(RunError, match=r"about.json says that its folder holds something else"):
        files.claim()


def test_a_cache_folder_that_cannot_be_made_is_an_error(
    files: AnswerFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path / "file"))
    with pytest.raises(RunError, match=r"teacher.cache: .* cannot be written .*STILLHOUSE_CACHE"):
        files.claim()


def test_one_process_fills_at_a_time_and_clears_away_what_another_left(files: AnswerFiles) -> None:
    fill(files, epochs=1)
    (files.folder / ".epoch.bin.1.tmp").write_bytes(b"half")
    with files.lock() as mine, files.lock() as theirs:
        assert mine()
        assert not theirs()
        files.clear_away()
    with files.lock() as theirs:
        assert theirs()
    assert not list(files.folder.glob(".*"))
    assert all(map(files.is_whole, files.parts(1)))


def test_many_files_may_be_open_at_once(files: AnswerFiles) -> None:
    fill(files, epochs=1)
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("this system does not list open files")
    before = len(list(folder.iterdir()))
    replay = files.open(1, CPU, torch.float32)
    assert len(list(folder.iterdir())) == before
    for path in files.folder.glob("*.bin"):
        path.unlink()
    assert replay(0, torch.arange(10))[0].isfinite().all()  # a run goes on when its cache is deleted
