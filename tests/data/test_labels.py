"""Fewer labels and wrong ones."""

import itertools

import pytest
import torch

from stillhouse.data.labels import balanced_subset, parse_count, with_wrong_labels
from stillhouse.data.store import DataConfig, open_store
from stillhouse.data.stream import ViewStream
from stillhouse.data.views import CROP_AND_FLIP
from stillhouse.errors import SettingsError


@pytest.mark.parametrize(
    ("text", "total", "count"),
    [
        ("250", 50_000, 250),
        ("1%", 1_281_167, 12_811),  # the published subsets of ImageNet
        ("10%", 1_281_167, 128_116),
        ("0.1%", 30_000, 30),
        ("100%", 7, 7),
        ("1%", 99, 0),
        ("5 per class", 99, 50),
    ],
)
def test_counts_and_shares(text: str, total: int, count: int) -> None:
    assert parse_count(text, total, 10) == count


@pytest.mark.parametrize("text", ["ten", "", "%", "-1", "1.5", "1/3%", "1%%", " 1%", "1e2", "5 per", "1% per class"])
def test_what_is_neither(text: str) -> None:
    with pytest.raises(SettingsError, match=r"neither a count \(250, 5 per class\) nor a share \(1%\)"):
        parse_count(text, 100, 10)


def test_the_published_split_of_a_thousand_classes() -> None:
    labels = torch.arange(14_000) % 1000
    chosen = balanced_subset(labels, 12_811, seed=0)
    assert torch.bincount(labels[chosen]).bincount().tolist() == [0] * 12 + [189, 811]


def test_smaller_subsets_lie_inside_larger_ones_and_every_one_is_balanced() -> None:
    labels = torch.randint(0, 4, (80,), generator=torch.Generator().manual_seed(1))
    last: set[int] = set()
    for count in range(4, 40):
        chosen = balanced_subset(labels, count, seed=3)
        assert chosen.tolist() == sorted(set(chosen.tolist()))
        assert last < set(chosen.tolist())
        assert sorted(torch.bincount(labels[chosen]).tolist()) == sorted(
            count // 4 + (number < count % 4) for number in range(4)
        )
        last = set(chosen.tolist())
    assert torch.equal(balanced_subset(labels, 20, seed=3), balanced_subset(labels, 20, seed=3))
    assert not torch.equal(balanced_subset(labels, 20, seed=3), balanced_subset(labels, 20, seed=4))


def test_every_image_and_every_class_is_as_likely() -> None:
    labels = torch.tensor([0, 1, 2] * 4)
    drawn = torch.cat([balanced_subset(labels, 4, seed) for seed in range(600)])
    assert ((torch.bincount(drawn) - 200).abs() < 60).all()  # 4 of 12 in each of 600 draws; deviation 11.5
    assert ((torch.bincount(labels[drawn]) - 800).abs() < 60).all()  # one class of three gives a second; 11.5


def test_a_class_that_has_run_out_is_passed_over_and_the_unlabelled_are_never_chosen() -> None:
    labels = torch.tensor([5, 9, -1, 9, 5, 9, 9, -1, 9, 9])
    chosen = balanced_subset(labels, 6, seed=0)
    assert torch.bincount(labels[chosen])[[5, 9]].tolist() == [2, 4]
    assert balanced_subset(labels, 8, seed=0).tolist() == [0, 1, 3, 4, 5, 6, 8, 9]


@pytest.mark.parametrize("count", [0, 2, 10])
def test_less_than_one_of_each_class_and_more_than_there_are(count: int) -> None:
    with pytest.raises(SettingsError, match=rf"{count} of 9 labels for 3 classes; ask for .*, 3 to 9"):
        balanced_subset(torch.tensor([0, 1, 2] * 3 + [-1] * 5), count, seed=0)


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.4, 1.0])
def test_exactly_so_many_labels_are_wrong(rate: float) -> None:
    labels = torch.arange(1001) % 7
    told = with_wrong_labels(labels, 7, rate, seed=2)
    assert int((told != labels).sum()) == round(rate * 1001)
    assert told.min() >= 0
    assert told.max() < 7


def test_wrong_labels_are_uniform_over_the_other_classes() -> None:
    labels = torch.arange(40_000) % 4
    told = with_wrong_labels(labels, 4, 0.6, seed=0)
    for truth in range(4):
        found = torch.bincount(told[labels == truth], minlength=4).double() / 10_000
        expected = torch.full((4,), 0.2, dtype=torch.float64)
        expected[truth] = 0.4
        torch.testing.assert_close(found, expected, atol=0.02, rtol=0)  # four deviations
    assert torch.equal(with_wrong_labels(labels % 2, 2, 1.0, seed=0), 1 - labels % 2)


def test_what_is_wrong_at_a_lower_rate_is_as_wrong_at_a_higher_one() -> None:
    labels = torch.arange(500) % 5
    low, high = (with_wrong_labels(labels, 5, rate, seed=4) for rate in (0.2, 0.6))
    wrong = low != labels
    assert torch.equal(low[wrong], high[wrong])
    assert not torch.equal(low, with_wrong_labels(labels, 5, 0.2, seed=5))


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
