"""Distillation of a classifier: a student gives every image the class scores that a fixed teacher gives it.

Source: Chen, Kornblith, Swersky, Norouzi, Hinton, "Big Self-Supervised Models are Strong Semi-Supervised Learners"
(SimCLRv2), 2020, section 2, equations 2 and 3.
"""

from dataclasses import dataclass, replace
from typing import Annotated

from annotated_types import Gt, Interval
from torch import Tensor, nn

from stillhouse.data.labels import Labels
from stillhouse.data.store import align_labels
from stillhouse.data.stream import Batch
from stillhouse.data.views import CROP_AND_FLIP, FOLLOW_IMAGES, ViewPlan
from stillhouse.errors import SettingsError
from stillhouse.losses.logits import labelled_cross_entropy, soft_cross_entropy
from stillhouse.methods.method import Method
from stillhouse.networks.classifier import Classifier
from stillhouse.networks.encoder import Encoder
from stillhouse.networks.teacher import FrozenTeacher


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """Settings of `Distill`."""

    temperature: Annotated[float, Gt(0)] = 1.0
    """Divides the scores of both; 0.1 was published for a student of the teacher's own kind."""
    scale_by_tau2: bool = False
    """Whether the distillation term is multiplied by the squared temperature."""
    label_weight: Annotated[float, Interval(ge=0, le=1)] = 0.0
    """Share of the loss that known labels have; 0 uses none. The paper's alpha is 1 less this."""
    views: ViewPlan = FOLLOW_IMAGES
    """Empty is one view, only cropped and flipped; teacher and student see the same."""

    def fit(self, encoder: Encoder) -> "DistillConfig":
        """The same settings with what follows from the encoder written out."""
        return replace(self, views=self.views.or_else(CROP_AND_FLIP).of(1))


class Distill(Method):
    """Soft cross-entropy to the teacher on all images and, if asked, cross-entropy on those with a label.

    The student is an encoder with a linear layer: it has no layer of a projection head, whatever its teacher has.

    Args:
        config: settings.
        encoder: the student's.
        teacher: with a classifier; classes without names are taken for those of the images, where there are as many.
        labels: of all images; read only where `label_weight` is above 0.

    Raises:
        SettingsError: the teacher has no classifier; labels are to be used, but no image has one, or the teacher does
            not know their classes.
    """

    labels: Tensor

    def __init__(self, config: DistillConfig, encoder: Encoder, teacher: FrozenTeacher, labels: Labels) -> None:
        super().__init__()
        self.config = config = config.fit(encoder)
        self.views, self.teacher = config.views, teacher
        if not teacher.num_classes:
            raise SettingsError(
                "teacher.source: it has no classifier, and its class scores are to be learnt; name a run that learnt "
                "classes (simclrv2-finetune), or a network that came with a linear one"
            )
        numbers = tuple(map(str, range(teacher.num_classes)))
        classes = teacher.classes or (labels.classes if len(labels.classes) == len(numbers) else numbers)
        self.student = Classifier(encoder, nn.Sequential(), classes, zero_output=False)
        self.factor = (1 - config.label_weight) * (config.temperature**2 if config.scale_by_tau2 else 1)
        if config.label_weight:
            self.register_buffer("labels", _as_numbered_by(classes, labels), persistent=False)

    @property
    def encoder(self) -> Encoder:
        return self.student.encoder

    @property
    def classifier(self) -> Classifier:
        return self.student

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        config = self.config
        (view,) = batch.views
        scores, wanted = self.student(view), self.teacher.classify(batch.ask(self.teacher, 0))
        terms = {"teacher": self.factor * soft_cross_entropy(scores, wanted, config.temperature)}
        if config.label_weight:
            terms["labels"] = config.label_weight * labelled_cross_entropy(scores, self.labels[batch.index])
        return terms


def _as_numbered_by(classes: tuple[str, ...], labels: Labels) -> Tensor:
    """The labels in the teacher's order of classes."""
    if not labels.classes:
        raise SettingsError(
            "method.label_weight: no image has a label; name images with labels, or set method.label_weight=0"
        )
    if strange := sorted(set(labels.classes) - set(classes)):
        raise SettingsError(
            f"teacher.source: {len(strange)} classes of the images are unknown to it ({', '.join(strange[:5])}); "
            "name one that was fine-tuned on these classes, or set method.label_weight=0"
        )
    return align_labels(labels.of, labels.classes, classes)
