"""Clones teach the core: merged as far as they help, then distilled, and kept as far as images held out agree.

Source: Lee, Yoo, Kwak 2020, "Asynchronous Edge Learning using Cloned Knowledge Distillation" and its third version,
"Edge Bias in Federated Learning and its Solution by Buffered Knowledge Distillation" (arXiv:2010.10338), for
distillation between clones, attending, retaining and the buffer. No equation or setting of theirs is known to us:
losses and defaults are ours, chosen by `benchmarks/edge_rules.py`.

Letters: B images of a batch, C scores of an image, K clones.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from stillhouse.data.stream import Batch
from stillhouse.edge.learning.classroom import Classroom, seeded
from stillhouse.edge.learning.comparing import ByAnchors, ByClasses, ByDirections, ByRelations, Comparison
from stillhouse.edge.learning.descent import Loss, descend, in_precision, own_loss, recompute_norms
from stillhouse.edge.learning.merging import moved_by
from stillhouse.edge.learning.rules import LISTENING, common, fit_strengths, residual
from stillhouse.edge.learning.weights import DECAYS, Decay, growth
from stillhouse.edge.lesson import Arrival, State
from stillhouse.losses.directions import unit
from stillhouse.methods.method import Method
from stillhouse.methods.travel import learning_encoder, pack
from stillhouse.schedules import cosine
from stillhouse.training.optimizers import OptimizerName, make_optimizer


@dataclass(frozen=True, kw_only=True)
class DistillingConfig:
    """Settings of `Distiller`; the defaults are the rule that does not forget."""

    target: Literal["residual", "clone"] = "residual"
    """What is attended to: what the core says plus what the user's training changed, or what the clone says."""
    centred: bool = True
    """Whether the part of a change that is alike for all images, a user's own mixture of classes, is left out."""
    strengths: Literal["fitted", "equal"] = "fitted"
    """How much of each change is taken: as much as helps on images held out, or the same of each, less of stale ones.
    Without labels it is the latter."""
    student: Literal["merged", "core", "snapshot", "clone", "scratch"] = "merged"
    """What the student is before the lesson: the core with the clones' changes in its weights, each with its strength;
    the core; the clone as it was sent out; the clone as it came back; new weights."""
    attend: Annotated[float, Interval(ge=0, le=1)] = 0.5
    """Lambda, weight of attending to a fresh clone; the method's own terms weigh the rest of 1."""
    decay: Decay = "polynomial"
    """How lambda falls with staleness."""
    retain: Annotated[float, Ge(0)] = 0.0
    """Beta, weight of retaining what the core said before the lesson."""
    retain_more: bool = False
    """Whether beta grows with staleness, to twice its value at most."""
    listen: Literal["everywhere", "where_better", "where_right", "by_confidence"] = "where_better"
    """Which of the images the core attends on, where classes are known."""
    compare: Literal["auto", "classes", "relations", "anchors", "directions"] = "auto"
    """What is compared; `auto` is class scores where the core tells classes, else relations."""
    every_depth: bool = False
    """Whether relations and directions are compared after every block."""
    temperature: Annotated[float, Gt(0)] = 4.0
    """Of class scores."""
    relation_temperature: Annotated[float, Gt(0)] = 0.1
    """Of the student's similarities."""
    target_temperature: Annotated[float, Gt(0)] = 0.1
    """Of the similarities that it is to have."""
    anchors: Annotated[int, Ge(1)] = 4096
    """Images whose vectors are anchors; all of fewer."""
    epochs: Annotated[float, Ge(0)] = 3.0
    """Passes over the server's images in one lesson; a fraction is allowed, 0 leaves the student as it begins."""
    batch_size: Annotated[int, Ge(2)] = 128
    optimizer: OptimizerName = "sgd"
    learning_rate: Annotated[float, Gt(0)] = 0.02
    """Of the first step; falls to 0 along half a cosine."""
    momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Ge(0)] = 5e-4
    norms: Literal["batch", "still"] = "batch"
    """Whether batch normalization follows the batches and is recomputed afterwards, or stays as it is."""


@dataclass(frozen=True)
class Distiller:
    """A rule: what the core becomes when clones teach it."""

    classroom: Classroom
    config: DistillingConfig = field(default_factory=DistillingConfig)

    def __call__(self, core: State, arrivals: Sequence[Arrival], version: int) -> tuple[State, Mapping[str, float]]:
        """The taught core and what was done, by name; neither `core` nor `arrivals` are changed.

        Where none of the changes helps, the core stays as it is.

        Args:
            core: weights now.
            arrivals: one or more clones.
            version: of the core that comes out; all randomness follows from it and the classroom's seed.

        Raises:
            TrainingError: the loss was not finite.
        """
        config, room, seed = self.config, self.classroom, self.classroom.seed_of(version)
        with seeded(seed, room.device):
            frozen = _Frozen(room, config, core, arrivals)
            strengths = frozen.strengths
            if not strengths.any():
                return core, {"strength": 0.0}
            student = self._student(core, arrivals, strengths, seed)
            staleness = sum(arrival.staleness for arrival in arrivals) / len(arrivals)
            attend = config.attend * DECAYS[config.decay](staleness)
            retain = config.retain * (growth(staleness) if config.retain_more else 1.0)
            stream = room.stream(student, config.batch_size, seed)
            steps = math.ceil(config.epochs * stream.steps_per_epoch)
            optimizer = make_optimizer(
                config.optimizer, student, weight_decay=config.weight_decay, momentum=config.momentum, decay_all=True
            )
            loss = in_precision(frozen.loss(student, attend, retain), room.training.precision, room.device)
            if config.norms == "still":
                _hold_norms(student)
            descend(student, stream.batches(0), loss, optimizer, cosine(config.learning_rate, 0.0), steps)
            if config.norms == "batch":
                recompute_norms(student, stream.batches(steps), stream.steps_per_epoch)
        return pack(student), {"attend_weight": attend, "strength": float(strengths.sum())}

    def _student(self, core: State, arrivals: Sequence[Arrival], strengths: Tensor, seed: int) -> Method:
        """Whoever is taught, in training mode."""
        kind, first = self.config.student, arrivals[0]
        if kind == "scratch":
            return self.classroom.fresh(seed)
        begin: dict[str, Callable[[], State]] = {
            "merged": lambda: moved_by(core, arrivals, strengths.tolist()),
            "core": lambda: core,
            "snapshot": lambda: first.base,
            "clone": lambda: first.state,
        }
        return self.classroom.method(begin[kind]())


class _Frozen:
    """The frozen networks of one lesson: the core as it was, and the clones as they went and as they came back."""

    def __init__(self, room: Classroom, config: DistillingConfig, core: State, arrivals: Sequence[Arrival]) -> None:
        self.room, self.config, self.arrivals = room, config, arrivals
        self.buffer = room.frozen(core)
        self.teachers = [room.frozen(arrival.state) for arrival in arrivals]
        sent = {arrival.base_version: arrival for arrival in arrivals}
        made = {
            version: room.frozen(arrival.base) if arrival.staleness else self.buffer
            for version, arrival in sent.items()
        }
        self.clones = [made[arrival.base_version] for arrival in arrivals]
        self.comparison = choose_comparison(room, config, self.buffer)
        self.labels = room.labels.of.to(room.device)
        self.offsets: list[Tensor] = []
        self.strengths = self._strengths()

    def _strengths(self) -> Tensor:
        """How much of each change is taken, `[K]`; finds the common part of each on the way."""
        decay, count = DECAYS[self.config.decay], len(self.arrivals)
        equal = torch.tensor([decay(arrival.staleness) / count for arrival in self.arrivals], device=self.room.device)
        if not self.room.classifies or not isinstance(self.comparison, ByClasses):
            return equal
        sent = {id(clone): self.room.scores(clone) for clone in (self.buffer, *self.clones)}
        changes = [
            self.room.scores(teacher) - sent[id(clone)]
            for teacher, clone in zip(self.teachers, self.clones, strict=True)
        ]
        if self.config.centred:
            self.offsets = [common(change, self.room.known) for change in changes]
            changes = [change - offset for change, offset in zip(changes, self.offsets, strict=True)]
        if self.config.strengths == "equal":
            return equal
        return fit_strengths(sent[id(self.buffer)], changes, self.room.known)

    def loss(self, student: Method, attend: float, retain: float) -> Loss:
        """`(1 - lambda) own + lambda attend + beta retain`, all on the same tensors, averaged over the views."""
        own = own_loss(student)

        def value(batch: Batch, progress: float) -> Tensor:
            total = (1.0 - attend) * own(batch, progress) if attend < 1.0 else batch.views[0].new_zeros(())
            if attend or retain:
                views = [view for view in batch.views if view.shape == batch.views[0].shape]
                terms = [self._terms(student, view, self.labels[batch.index], attend, retain) for view in views]
                total = total + torch.stack(terms).mean()
            return total

        return value

    def _terms(self, student: Method, view: Tensor, labels: Tensor, attend: float, retain: float) -> Tensor:
        """Mean over the depths that are compared."""
        compare = self.comparison
        with torch.no_grad():
            buffer = compare.read(self.buffer, view)
            targets = self._targets(view, buffer) if attend else buffer
        terms = []
        for seen, before, target in zip(compare.read(student, view), buffer, targets, strict=True):
            term = seen.new_zeros(())
            if attend:
                weights = self._weights(target, before, labels)
                term = term + attend * (weights * compare.distance(seen, target)).mean()
            if retain:
                term = term + retain * compare.distance(seen, before).mean()
            terms.append(term)
        return torch.stack(terms).mean()

    def _targets(self, view: Tensor, buffer: Sequence[Tensor]) -> Sequence[Tensor]:
        """What the student is to say, one `[B, C]` for every depth."""
        said = [self.comparison.read(teacher, view) for teacher in self.teachers]
        if self.config.target == "clone":
            return [self.comparison.join(scores) for scores in zip(*said, strict=True)]
        sent = {id(clone): self.comparison.read(clone, view) for clone in self.clones if clone is not self.buffer}
        sent[id(self.buffer)] = tuple(buffer)
        changes = [
            [now - then for now, then in zip(scores, sent[id(clone)], strict=True)]
            for scores, clone in zip(said, self.clones, strict=True)
        ]
        if self.offsets:
            changes = [
                [depth - offset for depth in change] for change, offset in zip(changes, self.offsets, strict=True)
            ]
        return [
            residual(core, moves, self.strengths)
            for core, moves in zip(buffer, zip(*changes, strict=True), strict=True)
        ]

    def _weights(self, target: Tensor, before: Tensor, labels: Tensor) -> Tensor:
        if self.config.listen == "everywhere" or not isinstance(self.comparison, ByClasses):
            return target.new_ones(len(target))
        known = labels >= 0
        return torch.where(known, LISTENING[self.config.listen](target, before, labels.clamp(min=0)), 1.0)


def choose_comparison(room: Classroom, config: DistillingConfig, core: Method) -> Comparison:
    """What the settings compare, for a core of this kind."""
    kind = config.compare
    if kind == "auto":
        kind = "classes" if room.template.classifier is not None else "relations"
    if kind == "classes":
        return ByClasses(config.temperature)
    if kind == "directions":
        return ByDirections(config.every_depth)
    if kind == "anchors":
        rows = room.learnt[: config.anchors]
        with torch.no_grad():
            vectors = torch.cat([learning_encoder(core)(images) for images in room.images(rows)])
        return ByAnchors(unit(vectors), config.relation_temperature, config.target_temperature)
    return ByRelations(config.relation_temperature, config.target_temperature, config.every_depth)


def _hold_norms(method: Method) -> None:
    """Batch normalization uses the statistics it has, and keeps them."""
    for part in method.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()
