"""SimReg: a small encoder regresses a frozen teacher's image vector.

Source: Navaneet, Abbasi Koohpayegani, Tejankar, Pirsiavash, "SimReg: Regression as a Simple Yet Effective Tool for
Self-supervised Knowledge Distillation", 2021.
"""

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from annotated_types import Interval
from torch import Tensor, nn

from stillhouse.data.stream import Batch
from stillhouse.data.views import FOLLOW_IMAGES, WEAK, ViewPlan
from stillhouse.losses.regression import cosine_distance
from stillhouse.methods.method import Method
from stillhouse.networks.encoder import Encoder
from stillhouse.networks.heads import Branch, mlp
from stillhouse.networks.teacher import FrozenTeacher


@dataclass(frozen=True, kw_only=True)
class SimRegConfig:
    """Settings of `SimReg`."""

    hidden_dim: Annotated[int, Interval(ge=0, le=65536)] = 0
    """Width of the hidden layers of the regression head; 0 is twice the encoder's."""
    views: ViewPlan = FOLLOW_IMAGES
    """Empty is one weakly changed view: crop and flip."""

    def fit(self, encoder: Encoder) -> "SimRegConfig":
        """The same settings with what follows from the encoder written out."""
        return replace(self, hidden_dim=self.hidden_dim or 2 * encoder.dim, views=self.views.or_else(WEAK))


class SimReg(Method):
    """Student and teacher look at the same view; a head of four layers, dropped afterwards, bridges their widths."""

    def __init__(self, config: SimRegConfig, encoder: Encoder, teacher: FrozenTeacher) -> None:
        super().__init__()
        self.config = config = config.fit(encoder)
        self.views = config.views
        self.teacher = teacher
        first = mlp([encoder.dim, config.hidden_dim, encoder.dim], output_norm=False)
        second = mlp([encoder.dim, config.hidden_dim, teacher.dim], output_norm=False)
        self.student = Branch(encoder, nn.Sequential(first, second))

    @property
    def encoder(self) -> Encoder:
        return self.student.encoder

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        terms = [
            cosine_distance(self.student(view), batch.ask(self.teacher, place))
            for place, view in enumerate(batch.views)
        ]
        return {"regression": torch.stack(terms).mean()}
