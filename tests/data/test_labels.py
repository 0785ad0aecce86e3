"""Which labels training knows: alike of every class, nested, and the same for the same seed."""

import itertools

import pytest
import torch

from stillhouse.data.labels import balanced_subset, parse_count
from stillhouse.data.store import DataConfig, open_store
from stillhouse.data.stream import ViewStream
from stillhouse.data.views import CROP_AND_FLIP
from stillhouse.errors import SettingsError

LABELS = (torch.arange(600) * 7 % 11).where(torch.arange(600) % 11 != 10, -1)
"""Eleven numbers, of which 4 (index 10 of each round) is unknown."""
CLASSES = torch.unique(LABELS[LABELS >= 0])


def counts(rows: torch.Tensor) -> list[int]:
    return [int((LABELS[rows] == name).sum()) for name in CLASSES]


@pytest.mark.parametrize("count", [10, 13, 57, 200])
def test_classes_share_alike_and_the_rest_is_one_each(count: int) -> None:
    rows = balanced_subset(LABELS, count, 3)
    shared, extra = divmod(count, len(CLASSES))
    assert sorted(counts(rows)) == [shared] * (len(CLASSES) - extra) + [shared + 1] * extra
    assert torch.equal(rows, rows.unique())
    assert (LABELS[rows] >= 0).all()


def test_sets_of_one_seed_are_nested_and_those_of_two_differ() -> None:
    drawn = [set(balanced_subset(LABELS, count, 3).tolist()) for count in range(10, 300, 7)]
    assert all(small < large for small, large in itertools.pairwise(drawn))
    assert set(balanced_subset(LABELS, 10, 3).tolist()) == drawn[0]
    assert set(balanced_subset(LABELS, 10, 4).tolist()) != drawn[0]


@pytest.mark.parametrize(
    ("labels", "count", "told"),
    [
        (LABELS, 9, "9 for 10 classes leave a class without any; ask for 10 or more"),
        (torch.tensor([0, 0, 0, 1]), 4, "class number 1 has 1, and 2 of each are wanted; ask for 2 or fewer"),
        (torch.tensor([-1, -1]), 1, "1 for 0 classes"),
    ],
)
def test_a_class_without_image_and_a_class_that_is_too_small_are_refused(
    labels: torch.Tensor, count: int, told: str
) -> None:
    with pytest.raises(SettingsError, match=told):
        balanced_subset(labels, count, 0)


def test_a_share_is_rounded_down_as_published() -> None:
    assert [parse_count(text, 1_281_167) for text in ("1%", "10%", "100%", "250")] == [12_811, 128_116, 1_281_167, 250]
    assert parse_count("0.7%", 1000) == 7
    for text in ("", "many", "0", "0%", "-5", "101%", "1001", "1.5", "nan%", "inf%"):
        with pytest.raises(SettingsError, match="number of images"):
            parse_count(text, 1000)


def test_only_chosen_labels_are_known_and_only_chosen_images_are_drawn() -> None:
    store = open_store("digits", DataConfig(limit=80), 8)
    rows = torch.tensor([3, 14, 15, 65, 70])
    known = store.knowing(rows)
    assert torch.equal((known.labels >= 0).nonzero().squeeze(1), rows)
    assert torch.equal(known.labels[rows], store.labels[rows])
    assert (store.labels >= 0).all()
    stream = ViewStream(store=store, plan=CROP_AND_FLIP, image_size=8, batch_size=4, seed=1, rows=rows)
    assert stream.steps_per_epoch == 1
    seen = torch.cat([batch.index for batch in itertools.islice(stream.batches(0), 40)])
    assert set(seen.tolist()) == set(rows.tolist())  # what one epoch leaves over, another shows
    jumped = next(stream.batches(23))
    assert torch.equal(jumped.index, seen[4 * 23 : 4 * 24])
