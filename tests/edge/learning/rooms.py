"""A small classroom: images of 4 x 4 pixels in three classes, and a perceptron with batch normalization."""

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from stillhouse.data.cachefile import Catalog
from stillhouse.data.labels import find_labels
from stillhouse.data.pixels import HeldStore
from stillhouse.data.views import View, ViewPlan
from stillhouse.edge.learning.classroom import Classroom, seeded
from stillhouse.edge.learning.descent import descend, own_loss
from stillhouse.edge.lesson import Arrival, State
from stillhouse.edge.questions import answer
from stillhouse.methods.byol import BYOL, BYOLConfig
from stillhouse.methods.finetune import FineTune, FineTuneConfig
from stillhouse.methods.method import Method
from stillhouse.methods.simclr import SimCLR, SimCLRConfig
from stillhouse.methods.travel import pack
from stillhouse.networks.plain import PlainEncoder
from stillhouse.training.optimizers import make_optimizer
from stillhouse.training.settings import TrainingConfig

SIDE, CLASSES = 4, 3
LEARNT, HELD, PRIVATE = 48, 36, 96
AS_IT_IS = View(min_area=1.0, aspect=(1.0, 1.0), flip=0.0, jitter=0.0, grayscale=0.0, blur=0.0)
SHORT = TrainingConfig(
    epochs=6, batch_size=16, learning_rate=1.6, warmup_epochs=0, optimizer="sgd", weight_decay=0.0,
    precision="fp32", memory_format="contiguous",
)  # fmt: skip


def make_store(labels: bool = True) -> HeldStore:
    """Noisy images of three patterns; every part holds all classes alike."""
    draw = np.random.default_rng(0)
    count = LEARNT + HELD + PRIVATE
    classes = np.arange(count) % CLASSES
    patterns = draw.normal(size=(CLASSES, SIDE, 3, SIDE))
    pixels = 128 + 28 * patterns[classes] + 40 * draw.normal(size=(count, SIDE, 3, SIDE))
    catalog = Catalog([str(n) for n in range(count)], classes, np.full((count, 2), SIDE), ("a", "b", "c"), ())
    return HeldStore(np.clip(pixels, 0, 255).astype(np.uint8), catalog, labels)


def make_room(kind: str = "classes", *, norm: bool = True, labels: bool = True, asked: int = 0) -> Classroom:
    """A classroom for a core that tells classes, or for `simclr` or `byol`; the first `asked` are questions."""
    store = make_store(labels)

    def build(chosen: int) -> Method:
        with seeded(chosen, torch.device("cpu")):
            hidden = [nn.BatchNorm1d(16)] if norm else []
            encoder = PlainEncoder(
                nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 16), *hidden, nn.ReLU()),
                SIDE,
                (0.5,) * 3,
                (0.2,) * 3,
            )
            if kind == "classes":
                config = FineTuneConfig(head_layer=0, zero_output=False, views=ViewPlan(views=(AS_IT_IS,)))
                return FineTune(config, encoder, nn.Sequential(), find_labels(store))
            pair = ViewPlan(views=(replace(AS_IT_IS, count=2, min_area=0.5, flip=0.5),))
            if kind == "byol":
                return BYOL(BYOLConfig(hidden_dim=12, output_dim=8, views=pair), encoder)
            return SimCLR(SimCLRConfig(hidden_dim=12, output_dim=8, projector_layers=2, views=pair), encoder)

    rows = torch.arange(len(store))
    held_out = rows[LEARNT : LEARNT + HELD]
    return Classroom(build, store, rows[asked:LEARNT], held_out, SIDE, SHORT, asked=rows[:asked])


def private_rows(room: Classroom, *classes: int) -> torch.Tensor:
    """Positions of a user's images, of these classes or of all."""
    rows = torch.arange(LEARNT + HELD, LEARNT + HELD + PRIVATE)
    labels = find_labels(make_store()).of
    return rows[torch.isin(labels[rows], torch.tensor(classes))] if classes else rows


def train(room: Classroom, state: State, rows: torch.Tensor, steps: int = 30, rate: float = 0.05) -> State:
    """What a user makes of a clone."""
    with seeded(7, room.device):
        method = room.method(state)
        stream = replace(room.stream(method, 16, 7), rows=rows, batch_size=min(16, len(rows)))
        optimizer = make_optimizer("sgd", method, weight_decay=0.0, momentum=0.9, decay_all=True)
        descend(method, stream.batches(0), own_loss(method), optimizer, lambda progress: rate, steps)
    return pack(method)


def arrival(state: State, base: State, staleness: int = 0, base_version: int = 0) -> Arrival:
    """A clone that came back."""
    return Arrival("somebody", base_version, staleness, state, base)


def same(one: State, other: State) -> bool:
    """Whether two states are equal to the last bit."""
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def answered(room: Classroom, trained: State, base: State, staleness: int = 0, base_version: int = 0) -> Arrival:
    """What a clone said that did not come back itself."""
    return Arrival("somebody", base_version, staleness, {}, base, answer(room.frozen(trained), room.questions))
