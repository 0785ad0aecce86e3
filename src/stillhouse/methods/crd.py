"""CRD without classes: recognize the teacher's stored vector of the same image among those of random others.

Source: Tian, Krishnan, Isola, "Contrastive Representation Distillation", 2020, with uniform negatives.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from stillhouse.data.candidates import uniform_candidates
from stillhouse.data.stream import Batch
from stillhouse.methods.method import Method
from stillhouse.methods.partners import Partners, PartnersConfig
from stillhouse.networks.encoder import Encoder
from stillhouse.networks.teacher import FrozenTeacher


@dataclass(frozen=True, kw_only=True)
class CRDConfig(PartnersConfig):
    """Settings of `CRD`; negatives are drawn from all images, with replacement."""


class CRD(Method):
    """What student and teachers say about an image is told apart from what they last said about random others."""

    def __init__(self, config: CRDConfig, encoder: Encoder, teachers: Sequence[FrozenTeacher]) -> None:
        super().__init__()
        self.config = config = config.fit(encoder)
        self.views = config.views
        self.student, self.teachers = encoder, nn.ModuleList(teachers)
        self.partners = Partners(config, encoder.dim, [teacher.dim for teacher in teachers])

    @property
    def encoder(self) -> Encoder:
        return self.student

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        (view,) = batch.views
        index, config = batch.index.to(view.device), self.config
        candidates = uniform_candidates(index, config.num_images, config.num_negatives, int(self.partners.step))
        terms: dict[str, Tensor] = self.partners(
            self.student(view), [batch.ask(teacher, 0) for teacher in self.teachers], index, candidates
        )
        return terms

    def after_step(self, progress: float) -> None:
        self.partners.advance()
