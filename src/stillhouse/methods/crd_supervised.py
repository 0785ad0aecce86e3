"""CRD as published: a classifier of the student, a teacher's class scores, and its vectors among other classes'.

Source: Tian, Krishnan, Isola, "Contrastive Representation Distillation", 2020, and its official code.

Letters: B images per process, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn import functional as F

from stillhouse.data.candidates import Positive, class_candidates, class_groups
from stillhouse.data.labels import Labels
from stillhouse.data.stream import Batch
from stillhouse.distributed import sum_over_processes, world_size
from stillhouse.errors import SettingsError
from stillhouse.losses.logits import knowledge_distillation
from stillhouse.methods.method import Method
from stillhouse.methods.partners import Partners, PartnersConfig
from stillhouse.networks.classifier import Classifier
from stillhouse.networks.encoder import Encoder
from stillhouse.networks.teacher import FrozenTeacher


@dataclass(frozen=True, kw_only=True)
class CRDSupervisedConfig(PartnersConfig):
    """Settings of `CRDSupervised`; negatives are drawn from the images of other classes, without replacement."""

    cross_entropy_weight: Annotated[float, Ge(0)] = 1.0
    distillation_weight: Annotated[float, Ge(0)] = 0.0
    """Of the teachers' class scores (KD); above 0 the teachers need classifiers of the same classes."""
    distillation_temperature: Annotated[float, Gt(0)] = 4.0
    contrast_weight: Annotated[float, Ge(0)] = 0.8
    positive: Positive = "exact"
    """`exact` looks for the same image, `relax` for a random image of its class."""


class CRDSupervised(Method):
    """A linear classifier reads the student's image vector; what CRD compares is of other classes.

    An image without a label has no class to learn, is a class of its own where negatives are drawn, and is told by the
    teachers all the same.
    """

    labels: Tensor
    """Class of every image, -1 where unknown, int64 `[N]`; of the data, so no checkpoint holds it."""
    groups: Tensor
    """`data.candidates.class_groups` of them, `[N]`."""

    def __init__(
        self, config: CRDSupervisedConfig, encoder: Encoder, teachers: Sequence[FrozenTeacher], labels: Labels
    ) -> None:
        super().__init__()
        self.config = config = config.fit(encoder)
        self.views = config.views
        labels.check_for("crd-supervised")
        self.teachers = nn.ModuleList(teachers)
        self.partners = Partners(config, encoder.dim, [teacher.dim for teacher in teachers])
        self.student = Classifier(encoder, nn.Sequential(), labels.classes, zero_output=False)
        self.register_buffer("labels", labels.of.clone(), persistent=False)
        self.register_buffer("groups", class_groups(labels), persistent=False)
        self._check(teachers, labels)

    @property
    def encoder(self) -> Encoder:
        return self.student.encoder

    @property
    def classifier(self) -> Classifier:
        return self.student

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        (view,) = batch.views
        index, config = batch.index.to(view.device), self.config
        own, wanted = self.encoder(view), [batch.ask(teacher, 0) for teacher in self.teachers]
        scores = self.student.score(own)
        terms = {"cross_entropy": config.cross_entropy_weight * self._cross_entropy(scores, self.labels[index])}
        if config.distillation_weight:
            told = [each.classify(rows) for each, rows in zip(self.teachers, wanted, strict=True)]  # type: ignore[operator]
            mean, temperature = torch.stack(told).mean(0), config.distillation_temperature
            terms["distillation"] = config.distillation_weight * knowledge_distillation(scores, mean, temperature)
        step = int(self.partners.step)
        candidates = class_candidates(index, self.groups, config.num_negatives, step, config.positive)
        contrast = self.partners(own, wanted, index, candidates)
        return terms | {name: config.contrast_weight * term for name, term in contrast.items()}

    def after_step(self, progress: float) -> None:
        self.partners.advance()

    def _cross_entropy(self, scores: Tensor, classes: Tensor) -> Tensor:
        """Mean over the images of all processes whose class is known, in nats; 0 where there is none."""
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        known = sum_over_processes((classes >= 0).sum().to(scores.dtype)) / world_size()
        return F.cross_entropy(scores, classes, ignore_index=-1, reduction="sum") / known.clamp_min(1 / world_size())

    def _check(self, teachers: Sequence[FrozenTeacher], labels: Labels) -> None:
        """Raise `SettingsError` when labels, images and teachers do not belong together."""
        if len(labels.of) != self.config.num_images:
            raise SettingsError(
                f"method.num_images: {self.config.num_images}, but {len(labels.of)} labels; give one for every image"
            )
        if not self.config.distillation_weight:
            return
        for number, teacher in enumerate(teachers, 1):
            found = teacher.num_classes
            if found == 0:
                raise SettingsError(
                    f"method.distillation_weight: {self.config.distillation_weight:g}, but teacher {number} has no "
                    "linear classifier; name one that has, or set the weight to 0"
                )
            if teacher.classes and teacher.classes != labels.classes:
                raise SettingsError(
                    f"method.distillation_weight: teacher {number} learnt other classes than the images have, or in "
                    "another order; name a teacher of these classes, or set the weight to 0"
                )
            if found != len(labels.classes):
                raise SettingsError(
                    f"method.distillation_weight: teacher {number} tells {found} classes and the images have "
                    f"{len(labels.classes)}; name a teacher of these classes, or set the weight to 0"
                )
