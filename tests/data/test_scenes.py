"""Generated scenes are the same every time, balanced, hard for raw pixels, and never the same in two splits."""

import io
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from stillhouse.data.scenes import CLASSES, ScenesSource, draw_scenes
from stillhouse.data.sources import open_source
from stillhouse.data.store import DataConfig, open_store
from stillhouse.errors import DataError
from stillhouse.evaluation.knn import classify


@pytest.fixture(scope="module")
def test_scenes() -> ScenesSource:
    return ScenesSource("test")


def pixels(source: ScenesSource, position: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.asarray(Image.open(io.BytesIO(source.read(position))))


def test_every_opening_draws_the_same_scenes(test_scenes: ScenesSource) -> None:
    again = pickle.loads(pickle.dumps(ScenesSource("test")))
    assert [again.read(position) for position in (0, 17, 999)] == [test_scenes.read(p) for p in (0, 17, 999)]
    assert again.fingerprint == test_scenes.fingerprint
    assert again.fingerprint != ScenesSource("train").fingerprint


def test_scenes_are_colour_images_of_32_pixels(test_scenes: ScenesSource) -> None:
    image = pixels(test_scenes, 5)
    assert image.shape == (32, 32, 3)
    assert image.std() > 20
    assert np.ptp(image.astype(int), axis=2).max() > 50


@pytest.mark.parametrize(("split", "count"), [("train", 6000), ("test", 1000), ("", 6000)])
def test_classes_are_balanced(split: str, count: int) -> None:
    source = open_source(f"scenes#{split}" if split else "scenes")
    assert len(source) == len(set(source.ids)) == count
    assert source.classes == CLASSES
    assert np.bincount(source.labels).tolist() == [count // 10] * 10
    assert source.rejected == ()


def test_no_scene_is_in_both_splits(test_scenes: ScenesSource) -> None:
    train = ScenesSource("train")
    assert not set(train.ids) & set(test_scenes.ids)
    seen = {train.read(position) for position in range(len(train))}
    assert len(seen) == 6000
    assert not seen & {test_scenes.read(position) for position in range(len(test_scenes))}


def test_unknown_split_is_refused_with_the_nearest() -> None:
    with pytest.raises(DataError, match=r"no split 'tests' \(nearest: 'test'\)"):
        open_source("scenes#tests")


def test_a_store_holds_what_was_drawn(test_scenes: ScenesSource) -> None:
    store = open_store("scenes#test", DataConfig(limit=20), 32)
    position = int(store.ids[3].rpartition("/")[2])
    assert store.labels[3] == test_scenes.labels[position]
    rows_columns_channels = store.gather(torch.tensor([3]))[0].permute(0, 2, 1)
    assert np.array_equal(rows_columns_channels.numpy(), pixels(test_scenes, position))


def test_a_disc_covers_more_than_a_ring_and_a_square_more_than_a_frame() -> None:
    """With ink of one colour only the shape is left: whether the labels name what is drawn."""
    shares = {name: covered(name) for name in CLASSES}
    assert shares["disc"] > shares["ring"] > shares["bar"]
    assert shares["square"] > shares["frame"]
    assert shares["disc"] == pytest.approx(2 * shares["half"], rel=0.15)


def covered(name: str) -> float:
    """Mean share of a place that shapes of this kind cover."""
    from stillhouse.data import scenes

    labels = np.full(100, CLASSES.index(name))
    return float(scenes._cover(labels, np.random.default_rng(0)).mean())


def test_raw_pixels_hardly_tell_the_classes() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(2400) % 10
    rows = torch.from_numpy(draw_scenes(labels, random)).flatten(1) / 255
    truth = torch.from_numpy(labels)
    answers = classify(rows[2000:], rows[:2000], truth[:2000], k=20, temperature=0.07)
    assert (answers == truth[2000:]).double().mean().item() < 0.25
