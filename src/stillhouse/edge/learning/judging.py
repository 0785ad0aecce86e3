"""How good a core is on images held out, with labels or without.

Letters: N images held out, M images of the bank, D width.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from torch.nn import functional as F

from stillhouse.edge.learning.gate import accuracy
from stillhouse.edge.learning.hearing import Hearing
from stillhouse.edge.learning.rules import calibrated_loss
from stillhouse.edge.lesson import State
from stillhouse.evaluation.knn import classify
from stillhouse.evaluation.split import thin
from stillhouse.health import effective_rank

K, TEMPERATURE, BANK = 20, 0.07, 2000


@dataclass(frozen=True)
class Verdict:
    """What decides between two cores."""

    loss: float
    """The lower the better."""
    floor: float
    """Must not fall much; in [0, 1]."""


class Judge(ABC):
    """Looks at a core on images held out."""

    @abstractmethod
    def verdict(self, state: State) -> Verdict:
        """For decisions."""

    @abstractmethod
    def scores(self, state: State) -> Mapping[str, float]:
        """For people; the first one is the one to keep up."""


@dataclass(frozen=True)
class ClassJudge(Judge):
    """A core that tells classes: what it knows at its best temperature, and accuracy."""

    hearing: Hearing

    def verdict(self, state: State) -> Verdict:
        scores, known = self.hearing.of(state).scores, self.hearing.room.known
        return Verdict(calibrated_loss(scores, known), accuracy(scores, known))

    def scores(self, state: State) -> Mapping[str, float]:
        scores, known = self.hearing.of(state).scores, self.hearing.room.known
        loss = F.cross_entropy(scores.double(), known).item()
        return {"accuracy": accuracy(scores, known), "cross_entropy": loss}


@dataclass(frozen=True)
class VectorJudge(Judge):
    """A core without classes: its own loss on fixed views, and the share of directions that its vectors use.

    Where all labels are known, the first score is k-NN accuracy (k 20, temperature 0.07, at most 2,000 images of the
    server's as the bank).
    """

    hearing: Hearing

    def verdict(self, state: State) -> Verdict:
        heard = self.hearing.of(state)
        vectors = heard.vectors[0].double()
        return Verdict(heard.own_loss, effective_rank(vectors).item() / vectors.shape[1])

    def scores(self, state: State) -> Mapping[str, float]:
        heard, room = self.hearing.of(state), self.hearing.room
        rest = {"minus_loss": -heard.own_loss, "effective_rank": effective_rank(heard.vectors[0].double()).item()}
        bank = thin(room.learnt, BANK)
        known, wanted = room.labels.of[bank], room.labels.of[room.held_out]
        if len(room.labels.classes) < 2 or bool((known < 0).any()) or bool((wanted < 0).any()):
            return rest
        found = classify(
            room.embed(heard.method, room.held_out), room.embed(heard.method, bank), known, k=K, temperature=TEMPERATURE
        )
        return {"knn": accuracy(F.one_hot(found).double(), wanted), **rest}


def judge_for(hearing: Hearing) -> Judge:
    """The judge that suits the core and what is known of the images held out."""
    return ClassJudge(hearing) if hearing.room.classifies else VectorJudge(hearing)
