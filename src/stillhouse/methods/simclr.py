"""SimCLR: contrastive learning inside the batch.

Source: Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual Representations", 2020.
"""

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor

from stillhouse.data.stream import Batch
from stillhouse.data.views import FOLLOW_IMAGES, ViewPlan, pair_for
from stillhouse.distributed import gather
from stillhouse.losses.contrastive import nt_xent
from stillhouse.methods.method import Method
from stillhouse.networks.encoder import Encoder
from stillhouse.networks.heads import Branch, head_width, mlp


@dataclass(frozen=True, kw_only=True)
class SimCLRConfig:
    """Settings of `SimCLR`."""

    temperature: Annotated[float, Gt(0)] = 0.2
    projector_layers: Annotated[int, Ge(1)] = 3
    hidden_dim: Annotated[int, Interval(ge=0, le=65536)] = 0
    """Width of the projector's hidden layers; 0 follows the encoder."""
    output_dim: Annotated[int, Interval(ge=1, le=65536)] = 256
    views: ViewPlan = FOLLOW_IMAGES
    """Empty follows the image size: `data.views.pair_for`."""

    def fit(self, encoder: Encoder) -> "SimCLRConfig":
        """The same settings with what follows from the encoder written out."""
        hidden_dim = self.hidden_dim or head_width(encoder.dim)
        return replace(self, hidden_dim=hidden_dim, views=self.views.or_else(pair_for(encoder.image_size)).of(2))


class SimCLR(Method):
    """Both views through one encoder and projector; each looks for the other among the whole global batch."""

    def __init__(self, config: SimCLRConfig, encoder: Encoder) -> None:
        super().__init__()
        self.config = config = config.fit(encoder)
        self.views = config.views
        hidden = [config.hidden_dim] * (config.projector_layers - 1)
        self.student = Branch(encoder, mlp([encoder.dim, *hidden, config.output_dim], output_norm=True))

    @property
    def encoder(self) -> Encoder:
        return self.student.encoder

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        first, second = self.student(torch.cat(batch.views)).chunk(2)
        return {"contrast": nt_xent(gather(first), gather(second), self.config.temperature)}
