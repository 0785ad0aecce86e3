"""Who a student listens to: the core as it was, and the clones as they went and as they came back.

Letters: B images of a batch, C scores of an image, K clones.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from stillhouse.data.stream import Batch
from stillhouse.edge.learning.comparing import ByClasses, choose_comparison
from stillhouse.edge.learning.descent import Loss, own_loss
from stillhouse.edge.learning.hearing import Hearing
from stillhouse.edge.learning.rules import LISTENING, common, fit_strengths, residual
from stillhouse.edge.learning.settings import DistillingConfig
from stillhouse.edge.learning.weights import DECAYS
from stillhouse.edge.lesson import Arrival, State
from stillhouse.methods.method import Method


class Panel:
    """The frozen networks of one lesson.

    Args:
        hearing: asks them about images held out.
        config: the settings.
        core: weights before the lesson.
        arrivals: clones that came back.
    """

    def __init__(self, hearing: Hearing, config: DistillingConfig, core: State, arrivals: Sequence[Arrival]) -> None:
        self.room, self.config, self.arrivals = hearing.room, config, arrivals
        self._core, self._returned = hearing.of(core), [hearing.of(arrival.state) for arrival in arrivals]
        sent = {arrival.base_version: arrival.base if arrival.staleness else core for arrival in arrivals}
        self._sent = [hearing.of(sent[arrival.base_version]) for arrival in arrivals]
        self.buffer = self._core.method
        self.teachers, self.clones = ([heard.method for heard in side] for side in (self._returned, self._sent))
        self.comparison = choose_comparison(self.room, config, self.buffer)
        self.labels = self.room.labels.of.to(self.room.device)
        self.offsets: list[Tensor] = []
        self.strengths = self._strengths()

    def _strengths(self) -> Tensor:
        """How much of each change is taken, `[K]`; finds the common part of each on the way."""
        decay, count = DECAYS[self.config.decay], len(self.arrivals)
        equal = torch.tensor([decay(arrival.staleness) / count for arrival in self.arrivals], device=self.room.device)
        if not self.room.classifies or not isinstance(self.comparison, ByClasses):
            return equal
        changes = [now.scores - then.scores for now, then in zip(self._returned, self._sent, strict=True)]
        if self.config.centred:
            self.offsets = [common(change, self.room.known) for change in changes]
            changes = [change - offset for change, offset in zip(changes, self.offsets, strict=True)]
        if self.config.strengths == "equal":
            return equal
        return fit_strengths(self._core.scores, changes, self.room.known)

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
