"""What both forms of CRD are made of: banks with what student and teachers said about every image, and the search.

Source: Tian, Krishnan, Isola, "Contrastive Representation Distillation", 2020, and its official code.

Letters: B images, K negatives, D_s and D_t widths of student and teacher.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Self

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from stillhouse.data.views import FOLLOW_IMAGES, ViewPlan, single_for
from stillhouse.distributed import sum_over_processes, world_size
from stillhouse.errors import SettingsError
from stillhouse.losses.directions import unit
from stillhouse.losses.noise_contrastive import noise_contrastive, partner_scores
from stillhouse.networks.encoder import Encoder
from stillhouse.networks.memory import MemoryBank


@dataclass(frozen=True, kw_only=True)
class PartnersConfig:
    """Settings that both forms of CRD share."""

    temperature: Annotated[float, Gt(0)] = 0.07
    num_negatives: Annotated[int, Ge(1)] = 16384
    """Drawn for every image."""
    output_dim: Annotated[int, Interval(ge=1, le=65536)] = 128
    momentum: Annotated[float, Interval(ge=0, le=1)] = 0.5
    """Share of an image's stored row that stays when it is seen again."""
    normalizer_momentum: Annotated[float, Interval(ge=0, le=1)] = 1.0
    """Share of the normalizers that stays in every step; 1 keeps those of the first batch, as published."""
    teacher_weights: tuple[Annotated[float, Ge(0)], ...] = ()
    """Of the terms of each teacher; empty is 1 for every teacher."""
    num_images: Annotated[int, Ge(0)] = 0
    """Of the data, each with a row in every bank; written out when training starts."""
    views: ViewPlan = FOLLOW_IMAGES
    """Empty is one view for the image size: `data.views.single_for`."""

    def fit(self, encoder: Encoder) -> Self:
        """The same settings with what follows from the encoder written out."""
        return replace(self, views=self.views.or_else(single_for(encoder.image_size)).of(1))


class PartnerSearch(nn.Module):
    """Two banks hold what student and teacher last said about every image, each through a linear layer that learns.

    Either side's new vector is an anchor that looks for its image's row in the other side's bank. The rows are from
    an earlier visit, so the partner is another view.

    Args:
        config: `num_images` is written out.
        student_dim: D_s.
        teacher_dim: D_t.
    """

    normalizers: Tensor
    """What scores against the teacher's and the student's bank are divided by; 0 until the first batch, `[2]`."""

    def __init__(self, config: PartnersConfig, student_dim: int, teacher_dim: int) -> None:
        super().__init__()
        self.temperature, self.normalizer_momentum = config.temperature, config.normalizer_momentum
        self.student_projector = nn.Linear(student_dim, config.output_dim)
        self.teacher_projector = nn.Linear(teacher_dim, config.output_dim)
        self.student_bank = MemoryBank(config.num_images, config.output_dim, config.momentum)
        self.teacher_bank = MemoryBank(config.num_images, config.output_dim, config.momentum)
        self.register_buffer("normalizers", torch.zeros(2))

    def forward(self, student: Tensor, teacher: Tensor, index: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Losses of the student's and of the teacher's anchors; both vectors are stored when the step is over.

        Args:
            student: image vectors `[B, D_s]`.
            teacher: image vectors `[B, D_t]`.
            index: places of the images in the banks, `[B]`.
            candidates: places that are compared with, the partner's first, `[B, K + 1]`.
        """
        own, wanted = unit(self.student_projector(student)), unit(self.teacher_projector(teacher))
        scores = (
            partner_scores(own, self.teacher_bank.rows, candidates, self.temperature),
            partner_scores(wanted, self.student_bank.rows, candidates, self.temperature),
        )
        self._follow(scores)
        self.student_bank.add(index, own)
        self.teacher_bank.add(index, wanted)
        num_images = len(self.student_bank.rows)
        return (
            noise_contrastive(scores[0], self.normalizers[0], num_images),
            noise_contrastive(scores[1], self.normalizers[1], num_images),
        )

    def advance(self) -> None:
        """Let the banks see what the step added."""
        self.student_bank.advance()
        self.teacher_bank.advance()

    @torch.no_grad()
    def _follow(self, scores: Sequence[Tensor]) -> None:
        """Set the normalizers to as many times the mean score as there are images, or move them towards that."""
        kept = self.normalizer_momentum if self.normalizers.any() else 0.0
        if kept < 1:
            means = torch.stack([each.mean() for each in scores]).to(self.normalizers.dtype)
            goal = sum_over_processes(means) / world_size() * len(self.student_bank.rows)
            self.normalizers.copy_(kept * self.normalizers + (1 - kept) * goal)


class Partners(nn.Module):
    """A search for every teacher, each with layers and banks of its own; and the step, which seeds the negatives.

    Args:
        config: the settings.
        student_dim: D_s.
        teacher_dims: D_t of each teacher.

    Raises:
        SettingsError: the number of images is missing, or there is another number of weights than of teachers.
    """

    step: Tensor
    """Steps taken, int64 scalar."""

    def __init__(self, config: PartnersConfig, student_dim: int, teacher_dims: Sequence[int]) -> None:
        super().__init__()
        if not config.num_images:
            raise SettingsError("method.num_images: 0, and every image needs a row; set it to the number of images")
        self.weights = config.teacher_weights or (1.0,) * len(teacher_dims)
        if len(self.weights) != len(teacher_dims):
            raise SettingsError(
                f"method.teacher_weights: {len(self.weights)} weights for {len(teacher_dims)} teachers; "
                "give one for each, or leave them out"
            )
        self.searches = nn.ModuleList(PartnerSearch(config, student_dim, dim) for dim in teacher_dims)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def forward(
        self, student: Tensor, teachers: Sequence[Tensor], index: Tensor, candidates: Tensor
    ) -> dict[str, Tensor]:
        """Loss of either side's anchors, summed over the weighted teachers; arguments as in `PartnerSearch`."""
        losses = [
            [weight * loss for loss in search(student, teacher, index, candidates)]
            for weight, search, teacher in zip(self.weights, self.searches, teachers, strict=True)
        ]
        own, wanted = (torch.stack(side).sum() for side in zip(*losses, strict=True))
        return {"student_anchor": own, "teacher_anchor": wanted}

    def advance(self) -> None:
        """Let the banks see what the step added; called once after every optimizer step."""
        for search in self.searches:
            search.advance()  # type: ignore[operator]
        self.step += 1
