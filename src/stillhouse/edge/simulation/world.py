"""Where a simulation takes place: the server's classroom, what each user holds, and the examination.

Letters: N images of the test, C classes.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stillhouse.data.augment import center_view
from stillhouse.data.labels import balanced_subset, find_labels
from stillhouse.data.sources import absolute
from stillhouse.data.store import DataConfig, ImageStore, open_store
from stillhouse.edge.learning.attackers import backdoor_success, stamp
from stillhouse.edge.learning.classroom import BATCH, Classroom, seeded
from stillhouse.edge.learning.judging import BANK, TEMPERATURE, K
from stillhouse.edge.learning.splits import dirichlet, few_classes, identical
from stillhouse.edge.lesson import State
from stillhouse.edge.simulation.scenario import Scenario, UsersConfig
from stillhouse.errors import DataError, SettingsError
from stillhouse.evaluation.knn import classify
from stillhouse.evaluation.split import hold_out, thin
from stillhouse.methods.method import Method
from stillhouse.methods.travel import learning_encoder
from stillhouse.recipes.preparing import prepare


@dataclass(frozen=True)
class Marks:
    """How good a core is on the images of the test."""

    accuracy: float
    recalls: tuple[float, ...]
    """Accuracy of every class, `[C]`; not a number for a class without images."""
    backdoor: float
    """Share of stamped images of other classes that are taken for class 0."""


@dataclass(frozen=True)
class Exam:
    """Images that nothing is decided by. A core without classes is asked by k-NN among what the server learns from."""

    room: Classroom
    store: ImageStore
    """Of the test images."""
    rows: Tensor
    """Positions of those, int64 `[N]`."""
    labels: Tensor
    """Their classes as the room numbers them, int64 `[N]`."""

    @torch.no_grad()
    def mark(self, state: State, stamped: bool = False) -> Marks:
        """Look at a core.

        Args:
            state: its weights.
            stamped: whether stamped images are shown as well; without, `backdoor` is not a number.
        """
        method = self.room.frozen(state)
        answers = self._answers(method, stamped=False)
        right, size = (answers == self.labels).double(), len(self.room.labels.classes)
        sums = torch.zeros(size, dtype=torch.float64).index_add_(0, self.labels, right)
        recalls = sums / torch.bincount(self.labels, minlength=size)
        fooled = backdoor_success(self._answers(method, stamped=True), self.labels) if stamped else math.nan
        return Marks(right.mean().item(), tuple(recalls.tolist()), fooled)

    def _answers(self, method: Method, *, stamped: bool) -> Tensor:
        """A class for every image, int64 `[N]` on the CPU."""
        shown = (center_view(pixels, self.room.image_size) for pixels in self.store.batches(self.rows.split(BATCH)))
        images = (stamp(view) if stamped else view for view in shown)
        if method.classifier is not None:
            return torch.cat([method.classifier(view).argmax(1) for view in images]).cpu()
        encoder, bank = learning_encoder(method), thin(self.room.learnt, BANK)
        vectors = torch.cat([encoder(view) for view in images])
        known = self.room.labels.of[bank].to(vectors.device)
        return classify(vectors, self.room.embed(method, bank), known, k=K, temperature=TEMPERATURE).cpu()


@dataclass(frozen=True)
class World:
    """All images of one seed, and who has them."""

    room: Classroom
    """The server's own images, and the architecture. Its store holds the users' images as well."""
    hands: Sequence[Tensor]
    """Positions of the images of each user, int64, rising."""
    exam: Exam


def open_world(scenario: Scenario, seed: int) -> World:
    """Open the images, deal them out, and make the core's method.

    Raises:
        SettingsError, DataError: the images, the core's recipe or the split do not work.
    """
    images, device = scenario.data, torch.device("cpu")
    if not images.uri:
        raise SettingsError("data.uri: no images named; pass --data URI, for instance train.parquet or digits#train")
    wanted = scenario.recipe
    data = DataConfig(uri=absolute(images.uri), limit=images.limit, store_size=wanted.data.store_size)
    recipe = replace(wanted, data=data, training=replace(wanted.training, seed=seed))
    with seeded(seed, device):
        first = prepare(recipe)
    settled = first.recipe

    def build(chosen: int) -> Method:
        if chosen == seed:
            return copy.deepcopy(first.method)
        with seeded(chosen, device):
            return prepare(replace(settled, training=replace(settled.training, seed=chosen))).method

    store = first.store
    labels = find_labels(store).of
    if bool((labels < 0).any()):
        raise DataError(f"data.uri: {images.uri} has images without a label; scores and splits need all of them")
    left = torch.arange(len(store))
    own_test = int(images.test) if images.test.isdecimal() else 0
    tested, left = _dealt(left, labels, own_test, seed, "data.test")
    server, left = _dealt(left, labels, images.server, seed, "data.server")
    kept, held_out = hold_out(labels[server], scenario.lesson.held_out, seed)
    room = Classroom(
        build, store.to(first.device), server[kept], server[held_out], settled.encoder.image_size, settled.training,
        first.device,
    )  # fmt: skip
    exam = Exam(room, room.store, tested, labels[tested]) if own_test else _elsewhere(scenario, room)
    hands = [left[hand] for hand in deal(labels[left], scenario.users, seed)]
    return World(room, hands, exam)


def deal(labels: Tensor, users: UsersConfig, seed: int) -> list[Tensor]:
    """Positions `[N_u]` of the images of each user, of those whose labels `[N]` these are.

    Raises:
        SettingsError: there are too few.
    """
    wanted = users.number * users.images
    if wanted > len(labels):
        raise SettingsError(
            f"users.images: {users.number} users with {users.images} images each take {wanted:,}, and {len(labels):,} "
            "are left; lower one of them, or data.server"
        )
    used = balanced_subset(labels, wanted, seed) if 0 < wanted < len(labels) else torch.arange(len(labels))
    if users.split == "iid":
        hands = identical(labels[used], users.number, seed)
    elif users.split == "dirichlet":
        hands = dirichlet(labels[used], users.number, users.alpha, seed)
    else:
        hands = few_classes(labels[used], users.number, users.classes, seed)
    return [used[hand] for hand in hands]


def _dealt(left: Tensor, labels: Tensor, count: int, seed: int, name: str) -> tuple[Tensor, Tensor]:
    """So many of the positions that are left, alike of every class, and the others."""
    if not count:
        return left[:0], left
    try:
        chosen = balanced_subset(labels[left], count, seed)
    except SettingsError as error:
        raise SettingsError(f"{name}: {error}") from error
    taken = torch.zeros(len(left), dtype=torch.bool)
    taken[chosen] = True
    return left[taken], left[~taken]


def _elsewhere(scenario: Scenario, room: Classroom) -> Exam:
    """An examination by the images behind another URI."""
    images = scenario.data
    data = DataConfig(uri=absolute(images.test), limit=images.test_limit)
    store = open_store(data.uri, data, room.store.size)
    labels = find_labels(store, room.labels.classes).of
    rows = torch.arange(len(store))
    if bool((labels < 0).any()):
        raise DataError(f"data.test: {images.test} has images without a label; scores need all of them")
    return Exam(room, store.to(room.device), rows, labels)
