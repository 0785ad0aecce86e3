"""Pictures that are there twice: planted ones are found and named, and no others."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from stillhouse.data.sources import open_source
from stillhouse.embeddings.duplicates import Duplicates, calibrate, close_pairs, find_duplicates, join
from stillhouse.embeddings.likeness import shifted_correlation
from stillhouse.embeddings.reader import Reader
from stillhouse.errors import DataError, SettingsError
from tests.embeddings.conftest import picture


def find(reader: Reader, folder: Path, threshold: float | None = None) -> Duplicates:
    return find_duplicates(reader, reader.open(str(folder)), open_source(str(folder)), threshold=threshold)


def save(pixels: NDArray[np.uint8], path: Path) -> None:
    Image.fromarray(pixels).save(path)


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """Twenty pictures; of the first five there are changed copies."""
    for number in range(20):
        save(picture(number), tmp_path / f"{number:02d}.png")
    (tmp_path / "file.png").write_bytes((tmp_path / "00.png").read_bytes())
    save(picture(1), tmp_path / "pixels.bmp")
    save(np.roll(picture(2), 1, axis=1), tmp_path / "shifted.png")
    save((picture(3) * 0.8).astype(np.uint8), tmp_path / "dark.png")
    jpeg = io.BytesIO()
    Image.fromarray(picture(4)).save(jpeg, "JPEG", quality=85)
    (tmp_path / "again.jpg").write_bytes(jpeg.getvalue())
    return tmp_path


def test_planted_copies_are_found_and_named(reader: Reader, planted: Path) -> None:
    found = find(reader, planted)
    groups = {frozenset(copy.id for copy in group) for group in found.groups}
    assert groups == {
        frozenset(pair)
        for pair in (("00.png", "file.png"), ("01.png", "pixels.bmp"), ("02.png", "shifted.png"),
                     ("03.png", "dark.png"), ("04.png", "again.jpg"))
    }  # fmt: skip
    kinds = {copy.id: copy.kind for group in found.groups for copy in group}
    assert kinds["00.png"] == kinds["01.png"] == "first"
    assert (kinds["file.png"], kinds["pixels.bmp"], kinds["shifted.png"]) == ("same file", "same pixels", "near")
    assert found.superfluous == 5
    assert found.calibrated
    assert all(copy.correlation >= 0.95 for group in found.groups for copy in group)


def test_equal_pixels_are_found_whatever_the_threshold(reader: Reader, planted: Path) -> None:
    found = find(reader, planted, threshold=1.0)
    assert {"00.png", "file.png"} in [{copy.id for copy in group} for group in found.groups]
    assert found.count("same pixels") == 1


def test_an_encoder_that_finds_all_alike_does_not_make_them_duplicates(reader: Reader, planted: Path) -> None:
    assert len(find(reader, planted, threshold=1e-6).groups) == 5


def test_a_single_pair_is_looked_at(reader: Reader, tmp_path: Path) -> None:
    save(picture(2), tmp_path / "a.png")
    save(np.roll(picture(2), 1, axis=1), tmp_path / "b.png")
    assert find(reader, tmp_path, threshold=1e-6).superfluous == 1


def test_three_alike_are_one_group(reader: Reader, planted: Path) -> None:
    (planted / "zz.png").write_bytes((planted / "00.png").read_bytes())
    group = find(reader, planted).groups[0]
    assert [copy.id for copy in group] == ["00.png", "file.png", "zz.png"]
    assert [copy.kind for copy in group] == ["first", "same file", "same file"]


def test_no_duplicates_among_different_pictures(reader: Reader, pictures: Path) -> None:
    found = find(reader, pictures)
    assert found.groups == ()
    assert found.superfluous == 0


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.01, float("nan")])
def test_a_threshold_out_of_range_is_refused(reader: Reader, pictures: Path, threshold: float) -> None:
    with pytest.raises(SettingsError, match=r"--threshold .*above 0 and up to 1"):
        find(reader, pictures, threshold)


def test_one_image_is_refused(reader: Reader, tmp_path: Path) -> None:
    save(picture(0), tmp_path / "x.png")
    with pytest.raises(DataError, match=r"1 image, and duplicates need two"):
        find(reader, tmp_path)


def test_pairs_are_those_of_a_slow_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stillhouse.embeddings.duplicates.TILE", 7)
    vectors = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    cosines = torch.cosine_similarity(vectors[:, None], vectors[None], dim=2)
    slow = {(i, j) for i in range(40) for j in range(i + 1, 40) if cosines[i, j] >= 0.6}
    found = [
        pair for one, other in close_pairs(vectors, 0.6) for pair in zip(one.tolist(), other.tolist(), strict=True)
    ]
    assert len(found) == len(slow)
    assert set(found) == slow


def test_joined_groups_are_connected_components() -> None:
    group = join(np.arange(7), np.array([5, 1]), np.array([6, 2]))
    assert group.tolist() == [0, 1, 1, 3, 4, 5, 5]
    assert join(group, np.array([2, 4]), np.array([6, 3])).tolist() == [0, 1, 1, 3, 3, 1, 1]


def test_correlation_forgets_shift_brightness_and_contrast() -> None:
    base = torch.rand(1, 20, 20, generator=torch.Generator().manual_seed(0))
    moved = torch.roll(base, (2, -1), (1, 2)) * 0.5 + 0.2
    assert shifted_correlation(base, moved, 2).item() == pytest.approx(1, abs=1e-5)
    assert shifted_correlation(base, moved, 1).item() < 0.5
    assert shifted_correlation(base, 1 - base, 0).item() == pytest.approx(-1, abs=1e-5)
    assert shifted_correlation(base, torch.full_like(base, 0.3), 2).item() == pytest.approx(0, abs=1e-6)


def test_calibration_is_what_small_changes_cost(reader: Reader, pictures: Path) -> None:
    store = reader.open(str(pictures))
    least = calibrate(reader, store, torch.arange(24), 0)
    pixels = store.gather(torch.arange(24))
    edge = torch.arange(16).add(1).clamp(max=15)
    changed = (pixels[:, edge][:, :, :, edge] * 1.2).clamp(max=255).to(torch.uint8)
    cosines = torch.cosine_similarity(reader.read_pixels(pixels), reader.read_pixels(changed))
    assert least == pytest.approx(torch.quantile(cosines, 0.02).item(), abs=1e-5)
