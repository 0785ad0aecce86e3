"""EsViT: DINO, and every region agrees with what a momentum teacher says about the region most like it.

Source: Li, Yang, Zhang, Gao, Xiao, Dai, Yuan, Gao, "Efficient Self-supervised Vision Transformers for Representation
Learning", ICLR 2022, and its official code.

Letters: B images, V views, T_v regions of view v, K prototypes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from stillhouse.data.stream import Batch
from stillhouse.errors import SettingsError
from stillhouse.losses.prototypes import self_distillation
from stillhouse.losses.regions import Regions, region_matching
from stillhouse.methods.method import Method
from stillhouse.methods.prototypes import PrototypesConfig, prototype_head, teacher_temperature
from stillhouse.networks.center import Center
from stillhouse.networks.encoder import Encoder, joined_by_size, num_regions
from stillhouse.networks.heads import PrototypeHead
from stillhouse.networks.teacher import MomentumTeacher
from stillhouse.schedules import cosine


@dataclass(frozen=True, kw_only=True)
class EsViTConfig(PrototypesConfig):
    """Settings of `EsViT`; temperatures, prototypes and heads are those of views and regions alike."""

    view_weight: Annotated[float, Ge(0)] = 0.5
    region_weight: Annotated[float, Ge(0)] = 0.5
    """Of the two losses; 0.5 each in the official code, 1 in the paper."""
    region_start: Annotated[float, Interval(ge=0, le=1)] = 0.0
    """Share of training from which regions are matched; two thirds for the published large networks, 1 for never."""
    teacher_temperature: Annotated[float, Gt(0)] = 0.07
    """At the end of its rise, and from then on."""
    learn_prototype_norm: bool = True
    """Whether the prototypes' lengths learn, too; off if training diverges."""


class EsViT(Method):
    """Scores of each view, and of each of its regions, are to be the teacher's of every other large view.

    Raises:
        SettingsError: the encoder tells no regions apart, so that the second loss would be the first.
    """

    def __init__(self, config: EsViTConfig, encoder: Encoder) -> None:
        super().__init__()
        self.config = config = config.fit(encoder)
        self.views = config.views
        self.num_large = config.views.num_large(encoder.image_size)
        if num_regions(encoder) < 2:
            raise SettingsError(
                f"encoder.image_size: at {encoder.image_size} px this encoder's last map has one region, and EsViT "
                "matches regions; give larger images, smaller patches or a finer stem"
            )
        self.student = _TwoHeads(encoder, prototype_head(config, encoder.dim), prototype_head(config, encoder.dim))
        self.teacher = MomentumTeacher(self.student)
        self.center = Center(config.num_prototypes, config.center_momentum)
        self.region_center = Center(config.num_prototypes, config.center_momentum)
        self.momentum = cosine(config.momentum, 1.0)
        self.temperature = teacher_temperature(config)

    @property
    def encoder(self) -> Encoder:
        """The teacher's, as published."""
        return self.teacher.module.encoder

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        config = self.config
        matching, learn = progress >= config.region_start, progress >= config.prototypes_frozen
        with torch.no_grad():
            wanted = self.teacher.module.see(batch.views[: self.num_large], learn_prototypes=False, regions=matching)
        seen = self.student.see(batch.views, learn_prototypes=learn, regions=matching)
        temperatures = config.student_temperature, self.temperature(progress)
        self.center.add(torch.cat(wanted.views))
        loss = self_distillation(seen.views, wanted.views, self.center.value, *temperatures)
        if not matching:
            return {"views": config.view_weight * loss, "regions": self.student.no_regions()}
        self.region_center.add(torch.cat([view.scores.flatten(0, 1) for view in wanted.regions]))
        region_loss = region_matching(seen.regions, wanted.regions, self.region_center.value, *temperatures)
        return {"views": config.view_weight * loss, "regions": config.region_weight * region_loss}

    def after_step(self, progress: float) -> None:
        if progress < self.config.region_start:  # a head that rests does not decay
            self.student.region_projector.load_state_dict(self.teacher.module.region_projector.state_dict())
        self.teacher.follow(self.student, self.momentum(progress))
        self.center.advance()
        self.region_center.advance()


class _Seen(NamedTuple):
    views: list[Tensor]
    """Scores of each view, `[B, K]`."""
    regions: list[Regions]
    """Regions of each view; empty if they were not asked for."""


class _TwoHeads(nn.Module):
    """An encoder, and a head each for its image vector and for its region vectors."""

    def __init__(self, encoder: Encoder, projector: PrototypeHead, region_projector: PrototypeHead) -> None:
        super().__init__()
        self.encoder, self.projector, self.region_projector = encoder, projector, region_projector

    def see(self, views: Sequence[Tensor], *, learn_prototypes: bool, regions: bool) -> _Seen:
        """Scores of views and regions; views of one size pass the encoder together, rows of all sizes each head."""
        batch = len(views[0])
        features = [self.encoder.features(same) for same in joined_by_size(views)]
        pooled = torch.cat([group.pooled for group in features])
        scores = self.projector.score(pooled, learn_prototypes=learn_prototypes)
        if not regions:
            return _Seen(list(scores.chunk(len(views))), [])
        tokens = [view for group in features for view in group.tokens.split(batch)]
        rows = torch.cat([view.flatten(0, 1) for view in tokens])
        found = self.region_projector.score(rows, learn_prototypes=learn_prototypes)
        parts = found.split([len(view) * view.shape[1] for view in tokens])
        told = [Regions(view, part.unflatten(0, view.shape[:2])) for view, part in zip(tokens, parts, strict=True)]
        return _Seen(list(scores.chunk(len(views))), told)

    def no_regions(self) -> Tensor:
        """0, with a gradient of 0 for every weight of the second head: every process has something to send."""
        return torch.stack([weight.sum() for weight in self.region_projector.parameters()]).sum() * 0.0
