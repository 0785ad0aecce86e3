"""The atlas: who is next to whom, maps that keep groups apart, small images in their places, labels only if real."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from stillhouse.evaluation.atlas import Atlas, depths, draw, flat_map, nearest, turned
from stillhouse.evaluation.sheet import contact_sheet
from stillhouse.evaluation.task import find_task
from tests.evaluation.made_up import make_encoder, make_store

LABELS = [0, 1, 2, 1] * 6
TRAIN = make_store([0, 1, 2] * 4, seed=1)


def drawn(labels: list[int], classes: tuple[str, ...] = ("red", "green", "blue"), bad: tuple[int, ...] = ()) -> Atlas:
    store = make_store(labels, classes, bad=bad)
    return draw(make_encoder(), store, find_task(TRAIN, store), best=1, images=20, seed=0)[0]


def test_neighbours_are_those_of_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.neighbors")
    vectors = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    asked = torch.tensor([3, 17])
    places, cosines = nearest(vectors, asked, 5)
    model = sklearn.NearestNeighbors(n_neighbors=6, metric="cosine").fit(vectors)
    far, found = model.kneighbors(vectors[asked])
    assert places.tolist() == found[:, 1:].tolist()
    assert np.allclose(cosines, 1 - far[:, 1:], atol=1e-5)


def test_nobody_is_a_neighbour_of_its_own_and_equals_stand_in_order() -> None:
    places, cosines = nearest(torch.ones(4, 3), torch.tensor([2]), 8)
    assert places.tolist() == [[0, 1, 3]]
    assert torch.allclose(cosines, torch.ones(1, 3))


def test_a_map_keeps_two_groups_apart_and_is_repeated_by_its_seed() -> None:
    noise = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    vectors = nn.functional.pad(noise, (0, 2))
    vectors[:20, 5], vectors[20:, 6] = 20, 20
    points = flat_map(vectors, 0)
    assert np.abs(points).max() == pytest.approx(1.0)
    centers = points[:20].mean(0), points[20:].mean(0)
    assert all(np.linalg.norm(points[:20] - centers[0], axis=1) < np.linalg.norm(points[:20] - centers[1], axis=1))
    assert np.array_equal(points, flat_map(vectors, 0))


def test_a_collapsed_encoder_still_has_a_map() -> None:
    assert np.isfinite(flat_map(torch.ones(12, 4), 0)).all()


def test_turning_undoes_a_turn_and_a_mirror() -> None:
    target = np.random.default_rng(0).uniform(-1, 1, (9, 2))
    target /= np.abs(target).max()
    changed = target @ np.array([[0.6, 0.8], [0.8, -0.6]])
    assert np.allclose(turned(changed, target), target)


@pytest.mark.parametrize(
    ("count", "best", "shown"), [(1, 1, (1,)), (2, 2, (1, 2)), (12, 9, (1, 6, 9, 12)), (5, 3, (1, 3, 5))]
)
def test_depths_are_few_and_rising(count: int, best: int, shown: tuple[int, ...]) -> None:
    assert depths(count, best) == shown


def test_small_images_lie_in_their_places() -> None:
    store = make_store([0] * 7, size=60)
    store.images[:] = (torch.arange(7) * 30).view(7, 1, 1, 1)
    sheet, columns = contact_sheet(store, torch.tensor([6, 0, 3, 5]))
    pixels = np.asarray(Image.open(io.BytesIO(sheet.tobytes())).convert("L"))
    assert (columns, pixels.shape) == (2, (96, 96))
    found = [pixels[row + 24, column + 24] for row in (0, 48) for column in (0, 48)]
    assert np.allclose(found, [180, 0, 90, 150], atol=6)


def test_the_file_is_plain_and_whole() -> None:
    atlas = drawn(LABELS, bad=(4,))
    with np.load(io.BytesIO(atlas.to_bytes()), allow_pickle=False) as arrays:
        assert set(arrays) == set(vars(atlas))
        assert arrays["points"].shape == (2, len(arrays["ids"]), 2)
    assert "image-4" not in atlas.ids
    assert [LABELS[int(name.partition("-")[2])] for name in atlas.ids] == atlas.labels.tolist()
    assert set(atlas.labels[atlas.queries]) == {0, 1, 2}
    assert atlas.near_block.tolist() == [1]


def test_without_real_labels_there_are_none() -> None:
    atlas = drawn([-1] * 12, classes=())
    assert set(atlas.labels) == {-1}
    assert len(atlas.classes) == 0


def test_too_few_images_make_no_atlas() -> None:
    few = make_store([0, 1, 2])
    assert draw(make_encoder(), few, find_task(TRAIN, few), best=1, images=9, seed=0) == ()
