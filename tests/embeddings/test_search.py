"""Nearest images: exact beside a slow loop, ties by place, the same from a file as from a run."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from stillhouse.embeddings.file import EmbeddingsFile, embed
from stillhouse.embeddings.reader import Part, Reader
from stillhouse.embeddings.search import Query, search, search_file, search_images
from stillhouse.errors import DataError, SettingsError


def parts(vectors: torch.Tensor, size: int) -> Iterator[Part]:
    for start in range(0, len(vectors), size):
        rows = [*range(start, min(start + size, len(vectors)))]
        yield Part(rows, [f"image-{row}" for row in rows], vectors[rows], [None] * len(rows))


@pytest.mark.parametrize("size", [1, 7, 100])
def test_finds_what_a_slow_loop_finds(size: int) -> None:
    vectors = torch.randn(100, 8, generator=torch.Generator().manual_seed(0))
    asked = vectors[17]
    cosines = [torch.dot(row, asked).item() / (row.norm() * asked.norm()).item() for row in vectors]
    slow = sorted((row for row in range(100) if row != 17), key=lambda row: -cosines[row])
    found = search(parts(vectors, size), Query("q", asked, 17), 9)
    assert [each.row for each in found] == slow[:9]
    assert found[0].cosine == pytest.approx(cosines[slow[0]], abs=1e-6)


@pytest.mark.parametrize("size", [1, 3, 64])
def test_of_equal_images_the_first_comes_first(size: int) -> None:
    """However the collection is cut; vectors of other lengths are equal, too."""
    one = torch.randn(33, generator=torch.Generator().manual_seed(1))
    vectors = torch.stack([one * (1 + row % 5) for row in range(64)])
    found = search(parts(vectors, size), Query("q", one, 2), 6)
    assert [each.row for each in found] == [0, 1, 3, 4, 5, 6]
    assert {each.cosine for each in found} == {1.0}


def test_more_than_there_are_gives_all() -> None:
    vectors = torch.eye(4)
    assert len(search(parts(vectors, 2), Query("q", vectors[0], 0), 50)) == 3
    assert len(search(parts(vectors, 2), Query("q", vectors[0], None), 50)) == 4


def test_other_widths_and_no_images_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"vectors of 4 numbers, but the query has 3"):
        search(parts(torch.eye(4), 2), Query("q", torch.ones(3), None), 1)
    with pytest.raises(SettingsError, match=r"--top 0"):
        search(parts(torch.eye(4), 2), Query("q", torch.ones(4), None), 0)


def test_a_file_finds_what_the_run_finds(reader: Reader, pictures: Path, tmp_path: Path) -> None:
    embed(reader, str(pictures), tmp_path / "x.parquet")
    store = reader.open(str(pictures))
    _, computed = search_images(reader, store, "a/05.png", 5)
    query, read = search_file(EmbeddingsFile(tmp_path / "x.parquet"), None, "a/05.png", 5)
    assert query.row == 5
    assert [each.id for each in read] == [each.id for each in computed]
    assert "a/05.png" not in [each.id for each in read]
    assert [each.label for each in read] == [each.id[0] for each in read]


def test_a_file_as_query_finds_its_twin_first(reader: Reader, pictures: Path, tmp_path: Path) -> None:
    Image.open(pictures / "b" / "04.png").save(tmp_path / "twin.png")
    embed(reader, str(pictures), tmp_path / "x.parquet")
    for query, found in (
        search_images(reader, reader.open(str(pictures)), str(tmp_path / "twin.png"), 3),
        search_file(EmbeddingsFile(tmp_path / "x.parquet"), reader, str(tmp_path / "twin.png"), 3),
    ):
        assert query.row is None
        assert found[0].id == "b/04.png"
        assert found[0].cosine == pytest.approx(1, abs=1e-6)


def test_an_unknown_image_is_told_with_the_nearest_id(reader: Reader, pictures: Path) -> None:
    with pytest.raises(DataError, match=r"--image a/05.pgn: no such id .*nearest: 'a/05.png'.*no such file"):
        search_images(reader, reader.open(str(pictures)), "a/05.pgn", 3)
