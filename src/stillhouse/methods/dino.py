"""DINO: every view agrees with what a momentum teacher says about the large views.

Source: Caron, Touvron, Misra, Jegou, Mairal, Bojanowski, Joulin, "Emerging Properties in Self-Supervised Vision
Transformers", 2021.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor

from stillhouse.data.stream import Batch
from stillhouse.data.views import FOLLOW_IMAGES, ViewPlan, multi_crop_for
from stillhouse.losses.prototypes import self_distillation
from stillhouse.methods.method import Method
from stillhouse.networks.center import Center
from stillhouse.networks.encoder import Encoder, joined_by_size
from stillhouse.networks.heads import Branch, PrototypeHead, head_width
from stillhouse.networks.teacher import MomentumTeacher
from stillhouse.schedules import cosine, rise


@dataclass(frozen=True, kw_only=True)
class DINOConfig:
    """Settings of `DINO`."""

    student_temperature: Annotated[float, Gt(0)] = 0.1
    teacher_temperature: Annotated[float, Gt(0)] = 0.04
    """At the end of its rise, and from then on; published up to 0.07."""
    teacher_temperature_start: Annotated[float, Gt(0)] = 0.04
    teacher_temperature_rise: Annotated[float, Interval(ge=0, le=1)] = 0.1
    """Share of training in which it goes from start to end in a straight line."""
    momentum: Annotated[float, Interval(ge=0, le=1)] = 0.996
    """Of the teacher at the start; rises to 1 along half a cosine. Small batches want more: 0.9995 at 256."""
    center_momentum: Annotated[float, Interval(ge=0, le=1)] = 0.9
    num_prototypes: Annotated[int, Ge(2)] = 65536
    """K; some thousands are enough for small data."""
    hidden_dim: Annotated[int, Interval(ge=0, le=65536)] = 0
    """Width of the head's hidden layers; 0 follows the encoder, up to the published 2048."""
    bottleneck_dim: Annotated[int, Ge(1)] = 256
    """Width of what is compared with the prototypes."""
    learn_prototype_norm: bool = False
    """Whether the prototypes' lengths learn, too; less stable, and a little better for large networks."""
    prototypes_frozen: Annotated[float, Interval(ge=0, le=1)] = 0.01
    """Share of training at the start in which the prototypes do not learn; published as the first epoch."""
    views: ViewPlan = FOLLOW_IMAGES
    """Empty follows the image size: `data.views.multi_crop_for`. The teacher sees the leading views of full size."""

    def fit(self, encoder: Encoder) -> "DINOConfig":
        """The same settings with what follows from the encoder written out."""
        hidden_dim = self.hidden_dim or min(2048, head_width(encoder.dim))
        return replace(self, hidden_dim=hidden_dim, views=self.views.or_else(multi_crop_for(encoder.image_size)))


class DINO(Method):
    """Student scores of each view are to be the teacher's, centred and sharpened, of every other large view."""

    def __init__(self, config: DINOConfig, encoder: Encoder) -> None:
        super().__init__()
        self.config = config = config.fit(encoder)
        self.views = config.views
        self.num_large = config.views.num_large(encoder.image_size)
        head = PrototypeHead(
            [encoder.dim, config.hidden_dim, config.hidden_dim, config.bottleneck_dim],
            config.num_prototypes,
            learn_norm=config.learn_prototype_norm,
        )
        self.student = Branch(encoder, head)
        self.teacher = MomentumTeacher(self.student)
        self.center = Center(config.num_prototypes, config.center_momentum)
        self.momentum = cosine(config.momentum, 1.0)
        self.temperature = rise(
            config.teacher_temperature_start, config.teacher_temperature, config.teacher_temperature_rise
        )

    @property
    def encoder(self) -> Encoder:
        """The teacher's, as published."""
        return self.teacher.module.encoder

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        config = self.config
        wanted = self.teacher(torch.cat(batch.views[: self.num_large]))
        self.center.add(wanted)
        loss = self_distillation(
            self._scores(batch.views, learn=progress >= config.prototypes_frozen),
            wanted.chunk(self.num_large),
            self.center.value,
            config.student_temperature,
            self.temperature(progress),
        )
        return {"views": loss}

    def after_step(self, progress: float) -> None:
        self.teacher.follow(self.student, self.momentum(progress))
        self.center.advance()

    def _scores(self, views: Sequence[Tensor], *, learn: bool) -> list[Tensor]:
        """Scores of every view; views of one size pass the encoder together, all of them the head."""
        rows = [self.student.encoder(same) for same in joined_by_size(views)]
        scores: Tensor = self.student.projector.score(torch.cat(rows), learn_prototypes=learn)  # type: ignore[operator]
        return list(scores.chunk(len(views)))
