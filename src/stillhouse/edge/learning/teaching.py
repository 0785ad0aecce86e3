"""The lesson of a real core: examined at the gate, taught by a rule, and kept as far as images held out agree.

Letters: N images held out, C classes.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

from annotated_types import Ge, Interval

from stillhouse.data.stream import ViewStream
from stillhouse.edge.learning.classroom import Classroom, seeded
from stillhouse.edge.learning.distiller import Distiller, DistillingConfig
from stillhouse.edge.learning.gate import (
    ACCEPTED,
    GateConfig,
    check_change,
    check_scores,
    check_structure,
    check_vectors,
)
from stillhouse.edge.learning.hearing import Hearing
from stillhouse.edge.learning.judging import Judge, judge_for
from stillhouse.edge.learning.measures import traits
from stillhouse.edge.learning.merging import FedAsync, FedAvg, FedBuff, FedDF, Rule, mix
from stillhouse.edge.lesson import Arrival, Decision, Lesson, State, Taught
from stillhouse.errors import Interrupted, TrainingError
from stillhouse.methods.travel import pack
from stillhouse.training.checkpoint import Checkpoints, TrainingState
from stillhouse.training.loop import Loop
from stillhouse.training.optimizers import make_optimizer
from stillhouse.training.settings import TrainingConfig

RuleName = Literal["distil", "rehearse", "fedasync", "fedbuff", "fedavg", "feddf"]


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """What of a lesson is kept."""

    shares: tuple[Annotated[float, Interval(gt=0, le=1)], ...] = (1.0, 0.75, 0.5, 0.25)
    """Points between the core before the lesson (0) and after it (1) that are tried; empty keeps the lesson unseen."""
    margin: Annotated[float, Ge(0)] = 0.01
    """By how much accuracy on images held out may fall at a point that is kept for what it knows; without labels, the
    effective rank over the width."""


@dataclass(frozen=True, kw_only=True)
class EdgeConfig:
    """Settings of what a core learns from its clones."""

    rule: RuleName = "distil"
    """Distillation, or what to compare it with: the server's images only, or merging of weights."""
    held_out: Annotated[float, Interval(gt=0, lt=1)] = 0.1
    """Share of the server's images that decisions are made by and that are never learnt from."""
    distilling: DistillingConfig = field(default_factory=DistillingConfig)
    """Read by `distil` and, for length and learning rate, by `rehearse` and `feddf`."""
    gate: GateConfig = field(default_factory=GateConfig)
    trial: TrialConfig = field(default_factory=TrialConfig)


class Teaching(Lesson):
    """A core that is a method of the house.

    Args:
        classroom: its images, its architecture and how it is trained at first.
        config: the settings.
        weights: of the first core; None trains it, as any run is trained, on what the server may learn from.
    """

    def __init__(self, classroom: Classroom, config: EdgeConfig, weights: State | None = None) -> None:
        self.room, self.config, self.weights = classroom, config, weights
        self.hearing = Hearing(classroom)
        self.rule = make_rule(classroom, config, self.hearing)
        self.judge: Judge = judge_for(self.hearing)

    def start(self) -> Taught:
        """The first core: the weights that it was made with, or what training gives.

        Raises:
            Interrupted: a signal came; nothing is kept.
            TrainingError: the loss was not finite.
        """
        room, seed = self.room, self.room.seed_of(0)
        if self.weights is not None:
            return self._scored(self.weights)
        with seeded(seed, room.device), TemporaryDirectory() as folder:
            method = copy.deepcopy(room.template)
            stream = room.stream(method, room.training.batch_size, seed, room.training.accumulate)
            training = _lasting(room.training, stream)
            optimizer = make_optimizer(
                training.optimizer,
                method,
                weight_decay=training.weight_decay,
                momentum=training.momentum,
                decay_all=training.decay_all,
            )
            loop = Loop(method, stream, optimizer, training, Checkpoints(Path(folder)), room.device)
            try:
                loop.run(TrainingState())
            except Interrupted as stop:
                raise Interrupted("edge: stopped while the first core was trained; begin again") from stop
        state = pack(method)
        return self._scored(state)

    def examine(self, core: State, arrival: Arrival) -> Decision:
        """Structure, then the size of the change, then images held out."""
        decision = check_structure(core, arrival.state)
        if decision.accepted:
            decision = check_change(arrival.base, arrival.state, self.config.gate)
        if not decision.accepted:
            return decision
        decision = self._heard_out(core, arrival)
        if not decision.accepted:
            self.hearing.forget(arrival.state, *([] if arrival.base is core else [arrival.base]))
        return decision

    def _heard_out(self, core: State, arrival: Arrival) -> Decision:
        """What images held out say."""
        room, gate = self.room, self.config.gate
        own, sent, teacher = (self.hearing.of(state) for state in (core, arrival.base, arrival.state))
        if room.classifies:
            return check_scores(own.scores, sent.scores, teacher.scores, room.known, gate)
        if room.template.classifier is None:
            return check_vectors(own.vectors, teacher.vectors, gate)
        return ACCEPTED

    def teach(self, core: State, arrivals: Sequence[Arrival], version: int) -> Taught:
        """By the rule, on a copy; then whatever lies between before and after and is best on images held out."""
        try:
            return self._teach(core, arrivals, version)
        finally:
            self.hearing.clear()

    def _teach(self, core: State, arrivals: Sequence[Arrival], version: int) -> Taught:
        try:
            taught, measures = self.rule(core, arrivals, version)
        except TrainingError:
            taught, measures = core, {"abandoned": 1.0}
        kept, share = self._kept(core, taught)
        done = {**measures, "kept": share}
        if self.room.classifies:
            done |= self._traits(core, kept, arrivals)
        return Taught(kept, self.judge.scores(kept), done)

    def _kept(self, core: State, taught: State) -> tuple[State, float]:
        """The best of the points that are tried, and which it is; the core itself, 0, where none is better."""
        if not self.config.trial.shares:
            return taught, 1.0
        before = self.judge.verdict(core)
        best, chosen, share = before, core, 0.0
        for tried in self.config.trial.shares:
            state = mix(core, taught, tried)
            verdict = self.judge.verdict(state)
            better = verdict.loss < best.loss and verdict.floor >= before.floor - self.config.trial.margin
            passed = chosen if better else state
            if better:
                best, chosen, share = verdict, state, tried
            if passed is not core:
                self.hearing.forget(passed)
        return chosen, share

    def _traits(self, core: State, kept: State, arrivals: Sequence[Arrival]) -> dict[str, float]:
        """Attending and retaining on images held out: means over the clones for which they are defined."""
        before, after, *said = (
            self.hearing.of(state).scores.argmax(1) for state in (core, kept, *(arrival.state for arrival in arrivals))
        )
        seen = [traits(before, after, teacher, self.room.known).table() for teacher in said]
        return {name: _mean([table[name] for table in seen]) for name in seen[0]}

    def _scored(self, state: State) -> Taught:
        taught = Taught(state, self.judge.scores(state))
        self.hearing.clear()
        return taught


def make_rule(classroom: Classroom, config: EdgeConfig, hearing: Hearing | None = None) -> Rule:
    """The rule that settings name; it asks by `hearing` what others ask, too."""
    distilling = config.distilling
    if config.rule == "distil":
        return Distiller(classroom, distilling, hearing)
    if config.rule == "rehearse":
        return Distiller(classroom, replace(distilling, student="core", strengths="equal", attend=0.0, retain=0.0))
    if config.rule == "feddf":
        return FedDF(classroom, epochs=distilling.epochs, batch_size=distilling.batch_size)
    merging: dict[RuleName, Rule] = {"fedasync": FedAsync(), "fedbuff": FedBuff(), "fedavg": FedAvg()}
    return merging[config.rule]


def _lasting(training: TrainingConfig, stream: ViewStream) -> TrainingConfig:
    """The same training for the images of this stream; a length in steps is written out in epochs."""
    epochs = training.steps / stream.steps_per_epoch if training.steps else training.epochs
    return replace(training, epochs=epochs, batch_size=stream.batch_size, checkpoint_steps=2**62)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
