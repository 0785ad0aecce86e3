"""How good a core is on images held out, with labels or without.

Letters: N images held out, M images of the bank, D width.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from stillhouse.edge.learning.classroom import Classroom
from stillhouse.edge.learning.descent import own_loss
from stillhouse.edge.learning.gate import accuracy
from stillhouse.edge.learning.rules import calibrated_loss
from stillhouse.evaluation.knn import classify
from stillhouse.evaluation.split import thin
from stillhouse.health import effective_rank
from stillhouse.methods.method import Method

K, TEMPERATURE, BANK = 20, 0.07, 2000


@dataclass(frozen=True)
class Verdict:
    """What decides between two cores."""

    loss: float
    """The lower the better."""
    floor: float
    """Must not fall much; in [0, 1]."""


class Judge(ABC):
    """Looks at a core that is asked only, on images held out."""

    @abstractmethod
    def verdict(self, method: Method) -> Verdict:
        """For decisions."""

    @abstractmethod
    def scores(self, method: Method) -> Mapping[str, float]:
        """For people; the first one is the one to keep up."""


@dataclass(frozen=True)
class ClassJudge(Judge):
    """A core that tells classes: what it knows at its best temperature, and accuracy."""

    room: Classroom

    def verdict(self, method: Method) -> Verdict:
        scores = self.room.scores(method)
        return Verdict(calibrated_loss(scores, self.room.known), accuracy(scores, self.room.known))

    def scores(self, method: Method) -> Mapping[str, float]:
        scores = self.room.scores(method)
        loss = F.cross_entropy(scores.double(), self.room.known).item()
        return {"accuracy": accuracy(scores, self.room.known), "cross_entropy": loss}


@dataclass(frozen=True)
class VectorJudge(Judge):
    """A core without classes: its own loss on fixed views, and the share of directions that its vectors use.

    Where all labels are known, the first score is k-NN accuracy (k 20, temperature 0.07, at most 2,000 images of the
    server's as the bank).
    """

    room: Classroom

    def verdict(self, method: Method) -> Verdict:
        vectors = self.room.vectors(method)[0].double()
        return Verdict(self._loss(method), effective_rank(vectors).item() / vectors.shape[1])

    def scores(self, method: Method) -> Mapping[str, float]:
        vectors = self.room.vectors(method)[0]
        rest = {"minus_loss": -self._loss(method), "effective_rank": effective_rank(vectors.double()).item()}
        bank = thin(self.room.learnt, BANK)
        known, wanted = self.room.labels.of[bank], self.room.labels.of[self.room.held_out]
        if len(self.room.labels.classes) < 2 or bool((known < 0).any()) or bool((wanted < 0).any()):
            return rest
        found = classify(
            self.room.embed(method, self.room.held_out),
            self.room.embed(method, bank),
            known,
            k=K,
            temperature=TEMPERATURE,
        )
        return {"knn": accuracy(F.one_hot(found).double(), wanted), **rest}

    @torch.no_grad()
    def _loss(self, method: Method) -> float:
        """Mean over the images held out of the method's own loss."""
        own, total = own_loss(method), 0.0
        for batch in self.room.views(method.views):
            total += own(batch, 1.0).item() * len(batch.index)
        return total / len(self.room.held_out)


def judge_for(room: Classroom) -> Judge:
    """The judge that suits the core and what is known of the images held out."""
    return ClassJudge(room) if room.classifies else VectorJudge(room)
