"""The endless stream of batches, in an order that seed, epoch and step alone decide.

Letters: N images, B images per process and batch, W processes, D width of a teacher.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stillhouse.data.augment import augment
from stillhouse.data.random import permutation
from stillhouse.data.store import ImageStore
from stillhouse.data.views import ViewPlan
from stillhouse.errors import DataError

Answers = Callable[[int, Tensor], tuple[Tensor, ...]]
"""From an epoch of views and images `[B]` to what a frozen teacher says about their views: one `[B, D]` per view."""


def no_answers(epoch: int, index: Tensor) -> tuple[Tensor, ...]:
    """Nothing is known beforehand."""
    return ()


@dataclass(frozen=True)
class Batch:
    """Views of the same images, and which images they are.

    Letters: B images per process, D width of a teacher.
    """

    views: tuple[Tensor, ...]
    """One `[B, 3, H, W]` in [0, 1] per view of the plan, in the plan's order."""
    index: Tensor
    """Position of each image in its store, `[B]`; of the one that is shown, where a bad one was replaced."""
    answers: tuple[Tensor, ...] = ()
    """What a frozen teacher says about each view, `[B, D]`, where that was kept; empty where it has to be asked."""

    def of(self, places: Sequence[int]) -> "Batch":
        """The same images with the views at these places only."""
        answers = tuple(self.answers[place] for place in places) if self.answers else ()
        return Batch(tuple(self.views[place] for place in places), self.index, answers)

    def ask(self, teacher: Callable[[Tensor], Tensor], *places: int) -> Tensor:
        """What a frozen teacher says about the views at these places, one after the other: `[len(places) * B, D]`.

        The teacher is not called where the batch brings its answers along.
        """
        if self.answers:
            return _joined([self.answers[place] for place in places])
        return teacher(_joined([self.views[place] for place in places]))


@dataclass(frozen=True, kw_only=True)
class ViewStream:
    """Cuts an epoch's shuffled images into batches and the batches into views.

    A process sees its part of every global batch, so the images of a step do not depend on the number of processes.
    What is left over at the end of an epoch waits for another epoch's shuffle.
    """

    store: ImageStore
    plan: ViewPlan
    image_size: int
    batch_size: int
    """Images per process and batch."""
    seed: int
    batches_per_step: int = 1
    """More than one when gradients are accumulated."""
    rank: int = 0
    world_size: int = 1
    rows: Tensor | None = None
    """Positions of the only images that are drawn, int64; None draws all."""
    ahead: int = 1
    """Batches that are augmented together; more than one pays where starting an operation is dear (a GPU)."""
    view_epochs: int = 0
    """Epochs of views that are shown again and again, in ever new orders; 0 draws new ones in every epoch."""
    answers: Answers = no_answers
    """What is known of a frozen teacher's answers."""

    def __post_init__(self) -> None:
        if self.steps_per_epoch == 0:
            raise DataError(
                f"training.batch_size: {self._images_per_step} images per step, but only {self._num_images} images; "
                "lower it"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass over the images."""
        return self._num_images // self._images_per_step

    def batches(self, step: int) -> Iterator[Batch]:
        """Batches from optimizer step `step` on, for ever."""
        epoch, within = divmod(step, self.steps_per_epoch)
        skip = within * self.batches_per_step
        while True:
            yield from self._epoch(epoch, skip)
            epoch, skip = epoch + 1, 0

    @property
    def _num_images(self) -> int:
        return len(self.store) if self.rows is None else len(self.rows)

    @property
    def _images_per_step(self) -> int:
        return self.batch_size * self.world_size * self.batches_per_step

    def _epoch(self, epoch: int, skip: int) -> Iterator[Batch]:
        order = permutation(self.seed, epoch, self._num_images)
        order = order if self.rows is None else self.rows[order]
        shown = epoch % self.view_epochs if self.view_epochs else epoch
        used = order[: self.steps_per_epoch * self._images_per_step]
        mine = used.view(-1, self.world_size, self.batch_size)[:, self.rank]
        chunks = mine.split(self.ahead)[skip // self.ahead :]
        skip %= self.ahead
        pixels = self.store.batches(chunk.flatten() for chunk in chunks)
        for chunk, images in zip(chunks, pixels, strict=True):
            index = chunk.flatten()
            sizes = self.store.sizes[index]
            views = augment(images, sizes, index, self.plan, self.image_size, self.seed, shown)
            parts = zip(*(view.split(self.batch_size) for view in views), strict=True)
            for rows, part in list(zip(chunk, parts, strict=True))[skip:]:
                seen = self.store.stand_ins[rows].to(images.device, non_blocking=True)
                yield Batch(part, seen, self.answers(shown, rows))
            skip = 0


def sample_views(store: ImageStore, plan: ViewPlan, image_size: int, seed: int, count: int) -> tuple[Tensor, ...]:
    """Views of the first `count` images as the first epoch would show them, one `[count, 3, H, W]` per view."""
    index = torch.arange(min(count, len(store)))
    return augment(store.gather(index), store.sizes[index], index, plan, image_size, seed, 0)


def _joined(rows: list[Tensor]) -> Tensor:
    return rows[0] if len(rows) == 1 else torch.cat(rows)
