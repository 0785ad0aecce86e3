"""DINO: every view agrees with what a momentum teacher says about the large views.

Source: Caron, Touvron, Misra, Jegou, Mairal, Bojanowski, Joulin, "Emerging Properties in Self-Supervised Vision
Transformers", 2021.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stillhouse.data.stream import Batch
from stillhouse.losses.prototypes import self_distillation
from stillhouse.methods.method import Method
from stillhouse.methods.prototypes import PrototypesConfig, prototype_head, teacher_temperature
from stillhouse.networks.center import Center
from stillhouse.networks.encoder import Encoder, joined_by_size
from stillhouse.networks.heads import Branch
from stillhouse.networks.teacher import MomentumTeacher
from stillhouse.schedules import cosine


@dataclass(frozen=True, kw_only=True)
class DINOConfig(PrototypesConfig):
    """Settings of `DINO`."""


class DINO(Method):
    """Student scores of each view are to be the teacher's, centred and sharpened, of every other large view."""

    def __init__(self, config: DINOConfig, encoder: Encoder) -> None:
        super().__init__()
        self.config = config = config.fit(encoder)
        self.views = config.views
        self.num_large = config.views.num_large(encoder.image_size)
        self.student = Branch(encoder, prototype_head(config, encoder.dim))
        self.teacher = MomentumTeacher(self.student)
        self.center = Center(config.num_prototypes, config.center_momentum)
        self.momentum = cosine(config.momentum, 1.0)
        self.temperature = teacher_temperature(config)

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
