"""The lesson of a real core: examined at the gate, taught by a rule, and kept as far as images held out agree.

Letters: N images held out, C classes.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from stillhouse.edge.learning.answer_distiller import AnswerDistiller
from stillhouse.edge.learning.answer_gate import check_answers, check_spread, check_useful
from stillhouse.edge.learning.classroom import Classroom
from stillhouse.edge.learning.distiller import Distiller
from stillhouse.edge.learning.first import train_first
from stillhouse.edge.learning.gate import ACCEPTED, check_change, check_scores, check_structure, check_vectors
from stillhouse.edge.learning.hearing import Hearing
from stillhouse.edge.learning.judging import Judge, judge_for
from stillhouse.edge.learning.measures import traits
from stillhouse.edge.learning.merging import FedAsync, FedAvg, FedBuff, FedDF, Rule, mix
from stillhouse.edge.learning.settings import EdgeConfig, RuleName, TrialConfig
from stillhouse.edge.lesson import Arrival, Decision, Lesson, State, Taught, Terms
from stillhouse.errors import TrainingError

__all__ = ["EdgeConfig", "Teaching", "TrialConfig", "make_rule"]


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
        self.answer_rule: Rule = AnswerDistiller(self.hearing, config.distilling, config.answers)
        self.judge: Judge = judge_for(self.hearing)

    def terms(self) -> Terms:
        """How far weights may move, and the questions."""
        questions = self.room.questions if len(self.room.asked) else None
        return Terms(self.config.gate.largest_change, questions)

    def start(self) -> Taught:
        """The first core: the weights that it was made with, or what training gives.

        Raises:
            Interrupted: a signal came; nothing is kept.
            TrainingError: the loss was not finite.
        """
        return self._scored(train_first(self.room) if self.weights is None else self.weights)

    def examine(self, core: State, arrival: Arrival) -> Decision:
        """Structure, then the size of the change, then images held out; of answers, what the questions' labels say."""
        if arrival.answers is None:
            decision = check_structure(core, arrival.state)
            if decision.accepted:
                decision = check_change(arrival.base, arrival.state, self.config.gate)
            if not decision.accepted:
                return decision
            decision = self._heard_out(core, arrival)
        else:
            decision = self._asked_out(core, arrival, arrival.answers)
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

    def _asked_out(self, core: State, arrival: Arrival, answers: Tensor) -> Decision:
        """What the questions say."""
        room, own, sent = self.room, self.hearing.of(core).answers, self.hearing.of(arrival.base).answers
        if not len(room.asked):
            return Decision(False, "answers: nothing was asked")
        decision = check_answers(answers, sent, self.config.answers, scores=room.template.classifier is not None)
        labels = room.labels.of[room.asked]
        if not decision.accepted or (room.template.classifier is not None and bool((labels < 0).any())):
            return decision
        if room.template.classifier is None:
            return check_spread(own, answers, self.config.gate)
        return check_useful(own, sent, answers, labels, self.config.gate)

    def teach(self, core: State, arrivals: Sequence[Arrival], version: int) -> Taught:
        """By the rule, on a copy; then whatever lies between before and after and is best on images held out."""
        try:
            return self._teach(core, arrivals, version)
        finally:
            self.hearing.clear()

    def _teach(self, core: State, arrivals: Sequence[Arrival], version: int) -> Taught:
        kept, measures = core, dict[str, float]()
        for rule, answered in ((self.rule, False), (self.answer_rule, True)):
            if group := [arrival for arrival in arrivals if (arrival.answers is not None) == answered]:
                kept, done = self._by(rule, kept, group, version)
                measures |= {f"answers_{name}": value for name, value in done.items()} if measures else done
        return Taught(kept, self.judge.scores(kept), measures)

    def _by(self, rule: Rule, core: State, arrivals: Sequence[Arrival], version: int) -> tuple[State, dict[str, float]]:
        """What one rule makes of the core, as far as it is kept, and what was done."""
        try:
            taught, measures = rule(core, arrivals, version)
        except TrainingError:
            taught, measures = core, {"abandoned": 1.0}
        kept, share = self._kept(core, taught)
        done = {**measures, "kept": share}
        return kept, done | self._traits(core, kept, arrivals) if self.room.classifies else done

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
        """Attending and retaining on images held out, or on questions where clones only answered those.

        Means over the clones for which they are defined.
        """
        before, after = (self.hearing.of(state) for state in (core, kept))
        seen = []
        for arrival in arrivals:
            if arrival.answers is None:
                said, labels = [before.scores, after.scores, self.hearing.of(arrival.state).scores], self.room.known
            else:
                said, labels = [before.answers, after.answers, arrival.answers], self.room.labels.of[self.room.asked]
            old, new, teacher = (scores.argmax(1) for scores in said)
            seen.append(traits(old, new, teacher, labels).table())
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


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
