"""Answers teach the core: by distillation alone, since no weights came.

Letters: B images of a batch, N questions, C scores of an image, K clones.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from stillhouse.data.random import permutation
from stillhouse.data.stream import Batch
from stillhouse.edge.learning.classroom import seeded
from stillhouse.edge.learning.comparing import ByClasses, Comparison, choose_comparison
from stillhouse.edge.learning.descent import Loss, own_loss
from stillhouse.edge.learning.drill import drill
from stillhouse.edge.learning.hearing import Hearing
from stillhouse.edge.learning.rules import LISTENING, common, fit_strengths, residual
from stillhouse.edge.learning.settings import AnswersConfig, DistillingConfig
from stillhouse.edge.learning.weights import DECAYS, growth
from stillhouse.edge.lesson import Arrival, State
from stillhouse.edge.questions import say
from stillhouse.methods.method import Method
from stillhouse.methods.travel import pack


@dataclass(frozen=True)
class AnswerDistiller:
    """A rule: the core learns to say about the questions what it said before, and what the users' training changed.

    The student is the core. Each step takes a batch of the server's images with the method's own loss, and a batch of
    questions with the distance to what is wanted of them.
    """

    hearing: Hearing
    config: DistillingConfig = field(default_factory=DistillingConfig)
    answers: AnswersConfig = field(default_factory=AnswersConfig)

    def __call__(self, core: State, arrivals: Sequence[Arrival], version: int) -> tuple[State, Mapping[str, float]]:
        """The taught core and what was done, by name; where none of the changes helps, the core stays as it is.

        Args:
            core: weights now.
            arrivals: one or more clones that answered.
            version: of the core that comes out; all randomness follows from it and the classroom's seed.

        Raises:
            TrainingError: the loss was not finite.
        """
        config, room = self.config, self.hearing.room
        seed = room.seed_of(version)
        with seeded(seed, room.device):
            lesson = _Wanted(self.hearing, config, core, arrivals, DECAYS[self.answers.decay])
            if not lesson.strengths.any():
                return core, {"strength": 0.0}
            student = room.method(core)
            staleness = sum(arrival.staleness for arrival in arrivals) / len(arrivals)
            attend = self.answers.attend * DECAYS[self.answers.decay](staleness)
            retain = config.retain * (growth(staleness) if config.retain_more else 1.0)
            drill(student, room, config, lesson.loss(student, attend, retain, config.batch_size, seed), seed)
        return pack(student), {"attend_weight": attend, "strength": float(lesson.strengths.sum())}


class _Wanted:
    """What is wanted of each question, and how far the student is from it."""

    def __init__(
        self,
        hearing: Hearing,
        config: DistillingConfig,
        core: State,
        arrivals: Sequence[Arrival],
        decay: Callable[[float], float],
    ) -> None:
        self.room, self.config = hearing.room, config
        self.comparison = _comparison(hearing, config, core)
        self.labels = self.room.labels.of[self.room.asked].to(self.room.device)
        sent = {arrival.base_version: arrival.base for arrival in arrivals}
        self.before = self._to_device(hearing.of(core).answers)
        self.then = [self._to_device(hearing.of(sent[arrival.base_version]).answers) for arrival in arrivals]
        self.now = [self._to_device(arrival.answers) for arrival in arrivals if arrival.answers is not None]
        self.offsets: list[Tensor] = []
        equal = [decay(arrival.staleness) / len(arrivals) for arrival in arrivals]
        self.strengths = self._fitted(torch.tensor(equal, device=self.room.device))

    def _fitted(self, equal: Tensor) -> Tensor:
        """How much of each change is taken, `[K]`; finds the common part of each on the way."""
        if not isinstance(self.comparison, ByClasses) or bool((self.labels < 0).any()):
            return equal
        changes = [now - then for now, then in zip(self.now, self.then, strict=True)]
        if self.config.centred:
            self.offsets = [common(change, self.labels) for change in changes]
            changes = [change - offset for change, offset in zip(changes, self.offsets, strict=True)]
        return equal if self.config.strengths == "equal" else fit_strengths(self.before, changes, self.labels)

    def loss(self, student: Method, attend: float, retain: float, batch_size: int, seed: int) -> Loss:
        """`(1 - lambda) own + lambda attend + beta retain`, the last two on questions."""
        own, turns = own_loss(student), _turns(len(self.labels), batch_size, seed)

        def value(batch: Batch, progress: float) -> Tensor:
            rows, compare = next(turns), self.comparison
            total = (1.0 - attend) * own(batch, progress) if attend < 1.0 else batch.views[0].new_zeros(())
            images = self.room.questions[rows].to(self.room.device).float() / 255
            seen, before = compare.see(say(student, images)), compare.see(self.before[rows])
            wanted = self._wanted(rows, before)
            weights = self._weights(wanted, before, self.labels[rows])
            total = total + attend * (weights * compare.distance(seen, wanted)).mean()
            return total + retain * compare.distance(seen, before).mean() if retain else total

        return value

    def _wanted(self, rows: Tensor, before: Tensor) -> Tensor:
        now, then = ([self.comparison.see(said[rows]) for said in side] for side in (self.now, self.then))
        if self.config.target == "clone":
            return self.comparison.join(now)
        changes = [after - sent for after, sent in zip(now, then, strict=True)]
        if self.offsets:
            changes = [change - offset for change, offset in zip(changes, self.offsets, strict=True)]
        return residual(before, changes, self.strengths)

    def _weights(self, target: Tensor, before: Tensor, labels: Tensor) -> Tensor:
        if self.config.listen == "everywhere" or not isinstance(self.comparison, ByClasses):
            return target.new_ones(len(target))
        return torch.where(labels >= 0, LISTENING[self.config.listen](target, before, labels.clamp(min=0)), 1.0)

    def _to_device(self, said: Tensor) -> Tensor:
        return said.to(self.room.device)


def _comparison(hearing: Hearing, config: DistillingConfig, core: State) -> Comparison:
    """Class scores where the core tells classes, since these are what it is asked for; of vectors only the last."""
    asked = "classes" if hearing.room.template.classifier is not None else config.compare
    return choose_comparison(hearing.room, replace(config, compare=asked, every_depth=False), hearing.of(core).method)


def _turns(count: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Batches of positions below `count`, again and again, each time in another order."""
    size, epoch = min(batch_size, count), 0
    while True:
        order = permutation(seed, epoch, count)
        yield from (order[begin : begin + size] for begin in range(0, count - size + 1, size))
        epoch += 1
