"""What of two networks is compared when one learns from the other: class scores, or similarities where none are known.

Letters: B images, C scores of an image, D width.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from stillhouse.edge.learning.classroom import Classroom
from stillhouse.edge.learning.rules import cloned, mean_shares
from stillhouse.edge.learning.settings import DistillingConfig
from stillhouse.losses.directions import unit
from stillhouse.losses.logits import distillation_of_each
from stillhouse.losses.similarity import cosines_to_others
from stillhouse.methods.method import Method
from stillhouse.methods.travel import learning_encoder


class Comparison(ABC):
    """How a network is read, and how far what it says is from what it should say."""

    @abstractmethod
    def read(self, method: Method, images: Tensor) -> tuple[Tensor, ...]:
        """What a method says about images `[B, 3, S, S]`: one `[B, C]` for every depth that is compared."""

    @abstractmethod
    def see(self, said: Tensor) -> Tensor:
        """What is compared, `[B, C]`, of what a network says: class scores `[B, C]`, or vectors `[B, D]`."""

    @abstractmethod
    def distance(self, student: Tensor, wanted: Tensor) -> Tensor:
        """Of every image by itself, `[B]`, from `[B, C]` and `[B, C]`; no gradient flows into what is wanted."""

    @abstractmethod
    def join(self, teachers: Sequence[Tensor]) -> Tensor:
        """What several clones say together, `[B, C]`."""


@dataclass(frozen=True)
class ByClasses(Comparison):
    """Class scores, by KL divergence times the squared temperature; clones are joined by the mean of their scores."""

    temperature: float = 4.0

    def read(self, method: Method, images: Tensor) -> tuple[Tensor, ...]:
        assert method.classifier is not None
        return (self.see(method.classifier(images)),)

    def see(self, said: Tensor) -> Tensor:
        return said.float()  # or differences of scores would be those of a short format

    def distance(self, student: Tensor, wanted: Tensor) -> Tensor:
        return distillation_of_each(student, wanted, self.temperature)

    def join(self, teachers: Sequence[Tensor]) -> Tensor:
        return cloned(teachers)


@dataclass(frozen=True)
class ByRelations(Comparison):
    """Cosines to the other images of the batch, by KL divergence; a rotation of either network's vectors is not seen.

    Clones are joined by the mean of their shares.
    """

    student_temperature: float = 0.1
    teacher_temperature: float = 0.1
    every_depth: bool = False
    """Whether vectors after every block are compared, not only the last."""

    def read(self, method: Method, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.see(rows) for rows in _vectors(method, images, self.every_depth))

    def see(self, said: Tensor) -> Tensor:
        return cosines_to_others(said)

    def distance(self, student: Tensor, wanted: Tensor) -> Tensor:
        return _divergence(student / self.student_temperature, wanted / self.teacher_temperature)

    def join(self, teachers: Sequence[Tensor]) -> Tensor:
        return mean_shares(teachers, self.teacher_temperature)


@dataclass(frozen=True)
class ByAnchors(Comparison):
    """Cosines to vectors of one network that stand still, as with SEED's queue, by KL divergence.

    Both networks are compared with the same anchors, so that they have to share coordinates, as clones do.
    """

    anchors: Tensor
    """Unit rows `[C, D]`."""
    student_temperature: float = 0.1
    teacher_temperature: float = 0.1

    def read(self, method: Method, images: Tensor) -> tuple[Tensor, ...]:
        (rows,) = _vectors(method, images, every_depth=False)
        return (self.see(rows),)

    def see(self, said: Tensor) -> Tensor:
        rows = unit(said)
        with torch.autocast(rows.device.type, enabled=False):
            return rows @ self.anchors.to(rows).T

    def distance(self, student: Tensor, wanted: Tensor) -> Tensor:
        return _divergence(student / self.student_temperature, wanted / self.teacher_temperature)

    def join(self, teachers: Sequence[Tensor]) -> Tensor:
        return mean_shares(teachers, self.teacher_temperature)


@dataclass(frozen=True)
class ByDirections(Comparison):
    """The vectors themselves, by `1 - cos`; only clones share coordinates, and only while they have not drifted far."""

    every_depth: bool = False

    def read(self, method: Method, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.see(rows) for rows in _vectors(method, images, self.every_depth))

    def see(self, said: Tensor) -> Tensor:
        return unit(said)

    def distance(self, student: Tensor, wanted: Tensor) -> Tensor:
        return 1.0 - F.cosine_similarity(student, wanted.detach(), dim=1)

    def join(self, teachers: Sequence[Tensor]) -> Tensor:
        return cloned(teachers)


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


def _vectors(method: Method, images: Tensor, every_depth: bool) -> tuple[Tensor, ...]:
    features = learning_encoder(method).features(images)
    return features.blocks if every_depth else (features.pooled,)


def _divergence(student: Tensor, wanted: Tensor) -> Tensor:
    seen, target = student.log_softmax(1), wanted.detach().log_softmax(1)
    return F.kl_div(seen, target, reduction="none", log_target=True).sum(1)
