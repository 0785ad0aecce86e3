"""What a user does with a clone: an honest training on its own images, or something else.

Letters: B images of a batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor

from stillhouse.data.stream import Batch, ViewStream
from stillhouse.edge.learning.attackers import ATTACKS, flip_labels, random_labels, stamp
from stillhouse.edge.learning.classroom import Classroom, seeded
from stillhouse.edge.learning.descent import descend, in_precision, own_loss
from stillhouse.edge.lesson import State
from stillhouse.methods.method import Method
from stillhouse.methods.travel import pack
from stillhouse.training.optimizers import make_optimizer

DATA_ATTACKS = ("label_flip", "random_labels", "backdoor")
"""Attacks on what is learnt; all others are on what is sent."""
STAMPED_SHARE = 0.2
"""Of the images of a user with a back door in mind."""


@dataclass(frozen=True, kw_only=True)
class LocalConfig:
    """How users train, with SGD of a constant rate that forgets its momentum between visits."""

    epochs: Annotated[float, Gt(0)] = 5.0
    """Passes over a user's own images, where `steps` is 0."""
    steps: Annotated[int, Ge(0)] = 0
    """Steps of every visit, however many images a user holds."""
    batch_size: Annotated[int, Ge(2)] = 64
    learning_rate: Annotated[float, Gt(0)] = 0.02
    momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Ge(0)] = 5e-4
    proximal: Annotated[float, Ge(0)] = 0.0
    """Pull to where the visit began: half of it times the squared distance is added to the loss."""

    def num_steps(self, images: int) -> int:
        """Steps of a visit of a user with so many images."""
        return self.steps or max(1, round(self.epochs * images / min(self.batch_size, max(2, images))))


def study(room: Classroom, rows: Tensor, clone: State, local: LocalConfig, seed: int, attack: str = "") -> State:
    """What a user sends back.

    Args:
        room: has everybody's images and the core's architecture.
        rows: positions of the user's images, int64; a single one is shown twice, for batch normalization.
        clone: what came.
        local: how long and fast.
        seed: of everything random in this visit.
        attack: kind of abuse; empty for none.

    Raises:
        TrainingError: the loss was not finite.
    """
    rows = rows.repeat(2) if len(rows) < 2 else rows
    with seeded(seed, room.device):
        method = room.method(clone)
        begin = [parameter.detach().clone() for parameter in method.parameters()]
        own = own_loss(method)

        def pulled(batch: Batch, progress: float) -> Tensor:
            moves = zip(method.parameters(), begin, strict=True)
            far = torch.stack([(now - then).square().sum() for now, then in moves]).sum()
            return own(batch, progress) + 0.5 * local.proximal * far

        stream = ViewStream(
            store=room.store, plan=method.views, image_size=room.image_size,
            batch_size=min(local.batch_size, len(rows)), seed=seed, rows=rows,
        )  # fmt: skip
        steps = local.num_steps(len(rows))
        batches: Iterator[Batch] = islice(stream.batches(0), steps)
        if attack in DATA_ATTACKS:
            batches = _spoilt(method, batches, rows, attack, seed)
        optimizer = make_optimizer(
            "sgd", method, weight_decay=local.weight_decay, momentum=local.momentum, decay_all=True
        )
        loss = in_precision(pulled if local.proximal else own, room.training.precision, room.device)
        descend(method, batches, loss, optimizer, lambda progress: local.learning_rate, steps)
    honest = pack(method)
    return ATTACKS[attack](clone, honest, seed) if attack in ATTACKS else honest


def _spoilt(method: Method, batches: Iterator[Batch], rows: Tensor, attack: str, seed: int) -> Iterator[Batch]:
    """The batches of a user who lies about its images; the labels that this copy of the method holds are changed.

    Source: of the back door, Gu, Dolan-Gavitt, Garg 2017 (BadNets).
    """
    labels = next(buffer for name, buffer in method.named_buffers() if name.rpartition(".")[2] == "labels")
    assert method.classifier is not None
    classes, own = len(method.classifier.classes), rows.to(labels.device)
    if attack == "label_flip":
        labels[own] = flip_labels(labels[own], classes)
    elif attack == "random_labels":
        labels[own] = random_labels(labels[own], classes, seed).to(labels.device)
    else:
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
        chosen = own[order[: round(STAMPED_SHARE * len(rows))].to(own.device)]
        labels[chosen] = 0
        return (_stamped(batch, chosen) for batch in batches)
    return batches


def _stamped(batch: Batch, chosen: Tensor) -> Batch:
    here = torch.isin(batch.index, chosen)[:, None, None, None]
    return replace(batch, views=tuple(torch.where(here, stamp(view), view) for view in batch.views))
