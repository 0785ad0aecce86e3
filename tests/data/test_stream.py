"""The order of batches follows from seed, epoch and step, whoever asks and however often."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from stillhouse.data.store import DataConfig, ImageStore, open_store
from stillhouse.data.stream import Batch, ViewStream, sample_views
from stillhouse.data.views import CIFAR_PAIR, View, ViewPlan
from stillhouse.errors import DataError


@pytest.fixture
def store() -> ImageStore:
    return open_store("digits", DataConfig(limit=50), 8)


@pytest.fixture
def stream(store: ImageStore) -> ViewStream:
    return ViewStream(store=store, plan=CIFAR_PAIR, image_size=16, batch_size=8, seed=3)


def first(stream: ViewStream, count: int, step: int = 0) -> list[Batch]:
    return list(itertools.islice(stream.batches(step), count))


def same(one: Batch, other: Batch) -> bool:
    pairs = zip((one.index, *one.views), (other.index, *other.views), strict=True)
    return all(torch.equal(mine, theirs) for mine, theirs in pairs)


def test_an_epoch_shows_each_image_once_and_every_epoch_in_another_order(stream: ViewStream) -> None:
    assert stream.steps_per_epoch == 6
    epochs = [torch.cat([batch.index for batch in first(stream, 6, step=6 * epoch)]) for epoch in range(3)]
    for order in epochs:
        assert len(order.unique()) == 48
    assert not torch.equal(epochs[0], epochs[1])
    assert len(torch.cat(epochs).unique()) == 50  # what one epoch leaves over, another shows
    assert all(view.shape == (8, 3, 16, 16) for view in first(stream, 1)[0].views)


@pytest.mark.parametrize("ahead", [1, 4, 100])
def test_any_step_can_be_begun_at_and_working_ahead_changes_nothing(stream: ViewStream, ahead: int) -> None:
    straight, jumped = first(stream, 15), replace(stream, ahead=ahead)
    for step in (0, 1, 5, 6, 9, 14):
        assert same(straight[step], first(jumped, 1, step)[0])
    assert all(map(same, straight, first(jumped, 15)))


def test_two_processes_share_the_batches_of_one(stream: ViewStream) -> None:
    ranks = [first(replace(stream, batch_size=4, rank=rank, world_size=2), 7) for rank in range(2)]
    for whole, left, right in zip(first(stream, 7), *ranks, strict=True):
        assert torch.equal(whole.index, torch.cat([left.index, right.index]))
        for view, one, other in zip(whole.views, left.views, right.views, strict=True):
            assert torch.equal(view, torch.cat([one, other]))


def test_accumulated_batches_are_parts_of_one_step(stream: ViewStream) -> None:
    parts = first(replace(stream, batch_size=4, batches_per_step=2), 14)
    for step, whole in enumerate(first(stream, 7)):
        assert torch.equal(whole.index, torch.cat([part.index for part in parts[2 * step : 2 * step + 2]]))
    assert torch.equal(first(replace(stream, batch_size=4, batches_per_step=2), 1, step=3)[0].index, parts[6].index)


def test_another_seed_is_another_stream(stream: ViewStream) -> None:
    assert not torch.equal(first(stream, 1)[0].index, first(replace(stream, seed=4), 1)[0].index)


def test_views_of_several_sizes(stream: ViewStream) -> None:
    plan = ViewPlan(views=(View(count=2), View(count=3, size_fraction=0.5)))
    batch = first(replace(stream, plan=plan), 1)[0]
    assert [view.shape[-1] for view in batch.views] == [16, 16, 8, 8, 8]


def test_samples_are_what_the_first_epoch_shows(stream: ViewStream, store: ImageStore) -> None:
    samples = sample_views(store, CIFAR_PAIR, 16, 3, 4)
    for batch in first(stream, 6):
        for place, image in enumerate(batch.index.tolist()):
            if image < 4:
                assert all(
                    torch.equal(view[place], sample[image]) for view, sample in zip(batch.views, samples, strict=True)
                )


def test_fewer_images_than_a_step_needs(stream: ViewStream) -> None:
    with pytest.raises(DataError, match=r"training.batch_size: 64 images per step, but only 50"):
        replace(stream, batch_size=64)


def test_views_come_again_after_so_many_epochs_in_another_order(stream: ViewStream) -> None:
    known: dict[tuple[int, int], torch.Tensor] = {}
    plain, again = first(stream, 24), first(replace(stream, view_epochs=2), 24)
    assert all(map(same, plain[:12], again))
    for step, batch in enumerate(again):
        for row, image in enumerate(batch.index.tolist()):
            view = batch.views[1][row]
            assert torch.equal(known.setdefault((step // 6 % 2, image), view), view)
    assert len(known) <= 100
    assert all(torch.equal(one.index, other.index) for one, other in zip(plain, again, strict=True))
    assert not any(torch.equal(one.views[0], other.views[0]) for one, other in zip(plain[12:], again[12:], strict=True))


@pytest.mark.parametrize("ahead", [1, 4])
def test_answers_stand_beside_the_views_they_are_about(stream: ViewStream, ahead: int) -> None:
    def say(epoch: int, index: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (100 * epoch + index, -index)

    half = replace(stream, batch_size=4, rank=1, world_size=2, view_epochs=2, answers=say, ahead=ahead)
    for step, batch in enumerate(first(half, 20, step=3), start=3):
        known, other = batch.answers
        assert torch.equal(known, 100 * (step // 6 % 2) + batch.index)
        assert torch.equal(other, -batch.index)


def test_a_teacher_is_asked_only_where_its_answers_are_not_known() -> None:
    views = tuple(torch.full((2, 1), float(view)) for view in range(3))
    asked = Batch(views, torch.arange(2))
    assert asked.ask(lambda joined: joined + 10, 2, 0).tolist() == [[12], [12], [10], [10]]
    known = Batch(views, torch.arange(2), answers=tuple(view + 10 for view in views))

    def asleep(joined: torch.Tensor) -> torch.Tensor:
        raise AssertionError

    for places in ((0,), (2, 0), (0, 1, 2)):
        assert torch.equal(known.ask(asleep, *places), asked.ask(lambda joined: joined + 10, *places))


def test_a_batch_names_the_image_that_stands_in_for_a_broken_one(tmp_path: Path) -> None:
    """So that what a method keeps for each image, such as its label, goes with the pixels it sees."""
    for number in range(4):
        Image.new("RGB", (8, 8), (60 * number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    store = open_store(str(tmp_path), DataConfig(cache="none"), 8)
    plan = ViewPlan(views=(View(jitter=0, grayscale=0, blur=0),))
    (batch,) = first(ViewStream(store=store, plan=plan, image_size=8, batch_size=4, seed=0), 1)
    red = (batch.views[0][:, 0].mean((1, 2)) * 255 / 60).round().long()
    assert sorted(batch.index.tolist()) == [0, 1, 3, 3]
    assert torch.equal(batch.index, red)
