"""Rules that merge weights: what federated learning does, to compare with.

Letters: K clones, s staleness.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from stillhouse.data.stream import Batch
from stillhouse.edge.learning.classroom import Classroom, seeded
from stillhouse.edge.learning.descent import descend, in_precision
from stillhouse.edge.learning.rules import cloned
from stillhouse.edge.learning.weights import DECAYS, Decay
from stillhouse.edge.lesson import Arrival, State
from stillhouse.methods.travel import pack
from stillhouse.schedules import cosine
from stillhouse.training.optimizers import make_optimizer

Rule = Callable[[State, Sequence[Arrival], int], tuple[State, Mapping[str, float]]]
"""From the core, the clones that came back and the version of the result to the taught core and what was done."""


def average(states: Sequence[State], shares: Sequence[float]) -> State:
    """Weighted mean of weights and statistics; what counts (whole numbers) is the first one's.

    Args:
        states: K of the same names and shapes.
        shares: K factors, used as they are; a mean needs a sum of 1.
    """
    mixed = {}
    for name, first in states[0].items():
        if first.is_floating_point():
            total = sum(share * state[name].double() for state, share in zip(states, shares, strict=True))
            assert isinstance(total, Tensor)
            mixed[name] = total.to(first.dtype)
        else:
            mixed[name] = first.clone()
    return mixed


def mix(core: State, other: State, share: float) -> State:
    """`(1 - share) core + share other`; the core itself, to the last bit, at 0."""
    return (
        average([core, other], [1.0 - share, share]) if share else {name: value.clone() for name, value in core.items()}
    )


def moved_by(core: State, arrivals: Sequence[Arrival], strengths: Sequence[float]) -> State:
    """The core, moved along what each user's training changed: `core + sum_k strength_k (state_k - base_k)`.

    Running variances stay at or above 0; what counts is the core's. Exactly the core where no strength is above 0.
    """
    moved = {}
    for name, value in core.items():
        total = value.double() if value.is_floating_point() else value
        for arrival, strength in zip(arrivals, strengths, strict=True):
            if value.is_floating_point() and strength:
                total = total + strength * (arrival.state[name].double() - arrival.base[name].double())
        total = total.clamp(min=0.0) if name.endswith("running_var") else total
        moved[name] = total.to(value.dtype, copy=True)
    return moved


@dataclass(frozen=True)
class FedAsync:
    """Every clone by itself: `(1 - a) core + a clone`, a falling with staleness.

    Source: Xie, Koyejo, Gupta 2019, with `share` 0.6 and the polynomial of exponent 0.5.
    """

    share: float = 0.6
    decay: Decay = "polynomial"

    def __call__(self, core: State, arrivals: Sequence[Arrival], version: int) -> tuple[State, Mapping[str, float]]:
        """The mixed core; one clone after the other."""
        for arrival in arrivals:
            core = mix(core, arrival.state, self.share * DECAYS[self.decay](arrival.staleness))
        return dict(core), {}


@dataclass(frozen=True)
class FedBuff:
    """Changes of the clones that waited, averaged: `core + (rate / K) sum_k (1 + s_k)^-1/2 (state_k - base_k)`.

    Source: Nguyen et al. 2022; published with ten clones that wait.
    """

    rate: float = 1.0
    decay: Decay = "polynomial"

    def __call__(self, core: State, arrivals: Sequence[Arrival], version: int) -> tuple[State, Mapping[str, float]]:
        """The moved core."""
        decay, share = DECAYS[self.decay], self.rate / len(arrivals)
        return moved_by(core, arrivals, [share * decay(arrival.staleness) for arrival in arrivals]), {}


@dataclass(frozen=True)
class FedAvg:
    """The mean of the clones of one round takes the core's place.

    Weights do not know how many images a user holds, and no clone says so: users count alike.

    Source: McMahan et al. 2017, with equal shares.
    """

    def __call__(self, core: State, arrivals: Sequence[Arrival], version: int) -> tuple[State, Mapping[str, float]]:
        """The mean."""
        return average([arrival.state for arrival in arrivals], [1.0 / len(arrivals)] * len(arrivals)), {}


@dataclass(frozen=True)
class FedDF:
    """The mean of the clones learns what they say together, on the server's images without their labels.

    Source: Lin et al. 2020: softmax of averaged scores, Adam at 1e-3 along half a cosine, batches of 128; here AdamW
    without decay, and a fixed number of epochs instead of a stop by validation.
    """

    classroom: Classroom
    epochs: float = 3.0
    batch_size: int = 128
    learning_rate: float = 1e-3

    def __call__(self, core: State, arrivals: Sequence[Arrival], version: int) -> tuple[State, Mapping[str, float]]:
        """The student."""
        room, seed = self.classroom, self.classroom.seed_of(version)
        with seeded(seed, room.device):
            student = room.method(FedAvg()(core, arrivals, version)[0])
            scores, teachers = student.classifier, [room.frozen(arrival.state).classifier for arrival in arrivals]
            assert scores is not None
            known = [teacher for teacher in teachers if teacher is not None]

            def loss(batch: Batch, progress: float) -> Tensor:
                (view,) = batch.views
                with torch.no_grad():
                    wanted = cloned([teacher(view) for teacher in known]).softmax(1)
                return F.kl_div(scores(view).log_softmax(1), wanted, reduction="batchmean")

            stream = room.stream(student, self.batch_size, seed)
            steps = math.ceil(self.epochs * stream.steps_per_epoch)
            optimizer = make_optimizer("adamw", student, weight_decay=0.0, momentum=0.0, decay_all=True)
            cast = in_precision(loss, room.training.precision, room.device)
            descend(student, stream.batches(0), cast, optimizer, cosine(self.learning_rate, 0.0), steps)
        return pack(student), {}
