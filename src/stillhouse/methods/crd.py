"""CRD without classes: recognize the teacher's stored vector of the same image among those of random others.

Source: Tian, Krishnan, Isola, "Contrastive Representation Distillation", 2020, with uniform negatives.
"""

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from stillhouse.data.stream import Batch
from stillhouse.data.views import FOLLOW_IMAGES, ViewPlan, single_for
from stillhouse.distributed import position, sum_over_processes, world_size
from stillhouse.errors import SettingsError
from stillhouse.losses.directions import unit
from stillhouse.losses.noise_contrastive import noise_contrastive, partner_scores
from stillhouse.methods.method import Method
from stillhouse.networks.encoder import Encoder
from stillhouse.networks.heads import Branch
from stillhouse.networks.memory import MemoryBank
from stillhouse.networks.teacher import FrozenTeacher


@dataclass(frozen=True, kw_only=True)
class CRDConfig:
    """Settings of `CRD`."""

    temperature: Annotated[float, Gt(0)] = 0.07
    num_negatives: Annotated[int, Ge(1)] = 16384
    """Drawn for every image from all images, with replacement."""
    output_dim: Annotated[int, Interval(ge=1, le=65536)] = 128
    momentum: Annotated[float, Interval(ge=0, le=1)] = 0.5
    """Share of an image's stored row that stays when it is seen again."""
    num_images: Annotated[int, Ge(0)] = 0
    """Of the data, each with a row in both banks; written out when training starts."""
    views: ViewPlan = FOLLOW_IMAGES
    """Empty is one view for the image size: `data.views.single_for`."""

    def fit(self, encoder: Encoder) -> "CRDConfig":
        """The same settings with what follows from the encoder written out."""
        return replace(self, views=self.views.or_else(single_for(encoder.image_size)).of(1))


class CRD(Method):
    """Two banks hold what student and teacher last said about every image, each through a linear layer that learns.

    Either side's new vector is an anchor that looks for its image's row in the other side's bank. The rows are from
    an earlier visit, so the partner is another view.
    """

    step: Tensor
    """Seeds the negatives, which are the same whatever the number of processes, int64 scalar."""
    normalizers: Tensor
    """Of the scores against the teacher's and the student's bank; 0 until the first batch has set them, `[2]`."""

    def __init__(self, config: CRDConfig, encoder: Encoder, teacher: FrozenTeacher) -> None:
        super().__init__()
        if not config.num_images:
            raise SettingsError("method.num_images: 0, and every image needs a row; set it to the number of images")
        self.config = config = config.fit(encoder)
        self.views = config.views
        self.teacher = teacher
        self.student = Branch(encoder, nn.Linear(encoder.dim, config.output_dim))
        self.teacher_projector = nn.Linear(teacher.dim, config.output_dim)
        self.student_bank = MemoryBank(config.num_images, config.output_dim, config.momentum)
        self.teacher_bank = MemoryBank(config.num_images, config.output_dim, config.momentum)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("normalizers", torch.zeros(2))

    @property
    def encoder(self) -> Encoder:
        return self.student.encoder

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        (view,) = batch.views
        own = unit(self.student(view))
        wanted = unit(self.teacher_projector(batch.ask(self.teacher, 0)))
        index = self._candidates(batch.index.to(view.device))
        temperature = self.config.temperature
        scores = [
            partner_scores(own, self.teacher_bank.rows, index, temperature),
            partner_scores(wanted, self.student_bank.rows, index, temperature),
        ]
        self._set_normalizers(scores)
        self.student_bank.add(index[:, 0], own)
        self.teacher_bank.add(index[:, 0], wanted)
        student, teacher = (
            noise_contrastive(each, normalizer, self.config.num_images)
            for each, normalizer in zip(scores, self.normalizers, strict=True)
        )
        return {"student_anchor": student, "teacher_anchor": teacher}

    def after_step(self, progress: float) -> None:
        self.student_bank.advance()
        self.teacher_bank.advance()
        self.step += 1

    def _candidates(self, index: Tensor) -> Tensor:
        """Places in the banks, `[B, K + 1]`: the image's own, then random ones, drawn for all processes at once."""
        config, count = self.config, len(index) * world_size()
        generator = torch.Generator().manual_seed(int(self.step))
        drawn = torch.randint(config.num_images, (count, config.num_negatives), generator=generator)
        start = position(index)
        return torch.cat([index[:, None], drawn[start : start + len(index)].to(index.device)], dim=1)

    @torch.no_grad()
    def _set_normalizers(self, scores: list[Tensor]) -> None:
        """Once: as many times the mean score of the first batch as there are images."""
        if not self.normalizers.any():
            means = torch.stack([each.mean() for each in scores]).to(self.normalizers.dtype)
            self.normalizers.copy_(sum_over_processes(means) / world_size() * self.config.num_images)
