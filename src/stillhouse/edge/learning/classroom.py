"""The server's own images, what is held out of them, and methods made of weights.

Letters: N images held out, M images asked about, C classes, D width, S side in pixels.
"""

import copy
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from stillhouse.data.augment import augment, center_view
from stillhouse.data.labels import Labels, find_labels
from stillhouse.data.random import permutation
from stillhouse.data.store import ImageStore
from stillhouse.data.stream import Batch, ViewStream
from stillhouse.data.views import ViewPlan
from stillhouse.edge.lesson import State
from stillhouse.errors import SettingsError
from stillhouse.evaluation.alignment import alignment_views
from stillhouse.evaluation.split import hold_out
from stillhouse.methods.method import Method
from stillhouse.methods.travel import learning_encoder, unpack
from stillhouse.recipes.preparing import prepare
from stillhouse.recipes.recipe import Recipe
from stillhouse.training.precision import torch_memory_format
from stillhouse.training.settings import TrainingConfig

BATCH = 512
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Classroom:
    """Where the core learns: images that it learns from, images that it never learns from, and its architecture."""

    build: Callable[[int], Method]
    """A method with fresh weights that follow from a seed; its settings and images are always the same."""
    store: ImageStore
    """On the device."""
    learnt: Tensor
    """Positions of the images that are learnt from, int64."""
    held_out: Tensor
    """Positions `[N]` of the images that decisions are made by, int64; none of them is ever learnt from."""
    image_size: int
    training: TrainingConfig
    """How the first core is trained; seed, precision and memory layout are those of every lesson."""
    device: torch.device = CPU
    asked: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    """Positions `[M]` of the images that devices are asked about, int64; neither learnt from nor held out."""

    @cached_property
    def template(self) -> Method:
        """A method to copy."""
        return self.fresh(self.training.seed)

    def fresh(self, seed: int) -> Method:
        """A method with new weights, in training mode, on the device."""
        layout = torch_memory_format(self.training.memory_format)
        made: Method = self.build(seed).to(device=self.device, memory_format=layout)  # type: ignore[call-overload]
        return made.train()

    @cached_property
    def labels(self) -> Labels:
        """Of all images of the store, numbered as the method numbers them."""
        return find_labels(self.store)

    @cached_property
    def questions(self) -> Tensor:
        """The central view of the images that are asked about, in whole steps of brightness: uint8 `[M, 3, S, S]`."""
        shown = [(images * 255).round().byte().cpu() for images in self.images(self.asked)] if len(self.asked) else []
        return torch.cat(shown) if shown else torch.empty(0, 3, self.image_size, self.image_size, dtype=torch.uint8)

    @property
    def known(self) -> Tensor:
        """Classes of the images held out, int64 `[N]` on the device; -1 where unknown."""
        return self.labels.of[self.held_out].to(self.device)

    @property
    def classifies(self) -> bool:
        """Whether the core tells classes, so that its scores can be held against labels."""
        return self.template.classifier is not None and bool((self.labels.of[self.held_out] >= 0).all())

    def method(self, state: State) -> Method:
        """A method with these weights that shares nothing with them, in training mode.

        Raises:
            RunError: the weights are those of another architecture.
        """
        made = copy.deepcopy(self.template)
        unpack(made, state)
        return made.train()

    def frozen(self, state: State) -> Method:
        """The same, to be asked only: in evaluation mode, and nothing of it learns."""
        return self.method(state).requires_grad_(False).eval()

    def stream(self, method: Method, batch_size: int, seed: int, accumulate: int = 1) -> ViewStream:
        """The views that a method learns from here; never of an image that is held out.

        Args:
            method: names the views.
            batch_size: images of a batch; fewer where there are not enough.
            seed: of the order and the views.
            accumulate: batches behind one step.
        """
        return ViewStream(
            store=self.store,
            plan=method.views,
            image_size=self.image_size,
            batch_size=min(batch_size, len(self.learnt) // accumulate),
            seed=seed,
            batches_per_step=accumulate,
            rows=self.learnt,
        )

    def seed_of(self, version: int) -> int:
        """The seed of everything random in the lesson that makes this version of the core."""
        return int.from_bytes(hashlib.blake2b(f"{self.training.seed}/{version}".encode(), digest_size=7).digest())

    def images(self, rows: Tensor) -> Iterator[Tensor]:
        """The central view of stored images in batches `[B, 3, S, S]` in [0, 1]; the same every time."""
        for pixels in self.store.batches(torch.split(rows, BATCH)):
            yield center_view(pixels, self.image_size)

    def views(self, plan: ViewPlan) -> Iterator[Batch]:
        """Views of the images held out; the same every time."""
        for index in torch.split(self.held_out, BATCH):
            views = augment(
                self.store.gather(index), self.store.sizes[index], index, plan, self.image_size, self.training.seed, 0
            )
            yield Batch(views, index.to(self.device))

    @torch.no_grad()
    def embed(self, method: Method, rows: Tensor) -> Tensor:
        """Vectors `[len(rows), D]` of the central view of stored images, by the encoder that learns."""
        return torch.cat([learning_encoder(method)(images) for images in self.images(rows)])

    @torch.no_grad()
    def vectors(self, method: Method) -> tuple[Tensor, Tensor]:
        """Vectors `[N, D]` of two views of each image held out, the same views every time, in evaluation mode."""
        plan = alignment_views(self.image_size)
        encoder, pairs = learning_encoder(method), self.views(plan)
        first, second = zip(*([encoder(view) for view in batch.views] for batch in pairs), strict=True)
        return torch.cat(first), torch.cat(second)

    @torch.no_grad()
    def scores(self, method: Method) -> Tensor:
        """Class scores `[N, C]` of the images held out, by a method in evaluation mode."""
        assert method.classifier is not None
        return torch.cat([method.classifier(images) for images in self.images(self.held_out)])


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Random numbers that follow from a seed inside; the caller's random state is kept."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def open_classroom(recipe: Recipe, share: float, questions: int = 0) -> Classroom:
    """The classroom of a recipe: its images, of which a share is held out, and its method.

    Args:
        recipe: of the core; `training.seed` seeds the split as well.
        share: of the images that is held out, in (0, 1); of every class alike where classes are known.
        questions: how many of the rest are set apart to be asked about, rounded within each class where known.

    Raises:
        SettingsError, DataError: the recipe, its encoder or its images do not work, or too few images are left.
    """
    first = prepare(recipe)
    settled, seed, rows = first.recipe, recipe.training.seed, first.method.rows
    used = torch.arange(len(first.store)) if rows is None else rows.cpu()
    labels = find_labels(first.store).of
    learnt, held_out = _apart(used, labels, share, seed)
    if min(len(learnt), len(held_out)) < 2:
        raise SettingsError(
            f"edge.held_out: {share:g} of {len(used)} images leaves {len(learnt)} to learn from and {len(held_out)} to "
            "decide by; give more images or another share"
        )
    if questions and not 2 <= questions <= len(learnt) // 2:
        raise SettingsError(
            f"lesson.answers.images: {questions} of the {len(learnt)} images that are not held out; ask about 2 to "
            f"{len(learnt) // 2}, so that as many are learnt from"
        )
    asked = learnt[:0]
    if questions:
        learnt, asked = _apart(learnt, labels, questions / len(learnt), seed + 1)

    def build(chosen: int) -> Method:
        if chosen == seed:
            return copy.deepcopy(first.method)
        return prepare(replace(settled, training=replace(settled.training, seed=chosen))).method

    size = settled.encoder.image_size
    store = first.store.to(first.device)
    return Classroom(build, store, learnt, held_out, size, settled.training, first.device, asked)


def _apart(rows: Tensor, labels: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Positions in two parts, the second one a share of all, of every class alike where all are known; rising."""
    if bool((labels[rows] >= 0).all()):
        kept, taken = hold_out(labels[rows], share, seed)
    else:
        order = permutation(seed, 0, len(rows))
        count = max(1, round(share * len(rows)))
        kept, taken = order[count:].sort().values, order[:count].sort().values
    return rows[kept], rows[taken]
