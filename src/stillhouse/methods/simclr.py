"""SimCLR: contrastive learning inside the batch and, as in SimCLRv2, with a memory of past batches.

Source: Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual Representations", 2020;
the memory: Chen et al., "Big Self-Supervised Models are Strong Semi-Supervised Learners", 2020.
"""

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from stillhouse.data.stream import Batch
from stillhouse.data.views import FOLLOW_IMAGES, ViewPlan, pair_for
from stillhouse.distributed import gather
from stillhouse.losses.contrastive import nt_xent, nt_xent_with_memory
from stillhouse.methods.method import Method
from stillhouse.networks.encoder import Encoder
from stillhouse.networks.heads import Branch, head_width, mlp, scaled_mlp
from stillhouse.networks.queue import Queue
from stillhouse.networks.teacher import MomentumTeacher


@dataclass(frozen=True, kw_only=True)
class SimCLRConfig:
    """Settings of `SimCLR`."""

    temperature: Annotated[float, Gt(0)] = 0.2
    projector_layers: Annotated[int, Ge(1)] = 3
    hidden_dim: Annotated[int, Interval(ge=0, le=65536)] = 0
    """Width of the projector's hidden layers; 0 follows the encoder."""
    published_projector: bool = False
    """The projector of the released code: hidden layers as wide as the encoder, and a scale in the last one."""
    output_dim: Annotated[int, Interval(ge=1, le=65536)] = 256
    memory_size: Annotated[int, Ge(0)] = 0
    """Past projections of a moving average that are negatives, too; 0 for none; SimCLRv2 has 65536."""
    memory_momentum: Annotated[float, Interval(ge=0, le=1)] = 0.999
    """Of that moving average."""
    views: ViewPlan = FOLLOW_IMAGES
    """Empty follows the image size: `data.views.pair_for`."""

    def fit(self, encoder: Encoder) -> "SimCLRConfig":
        """The same settings with what follows from the encoder written out."""
        hidden_dim = self.hidden_dim or (encoder.dim if self.published_projector else head_width(encoder.dim))
        return replace(self, hidden_dim=hidden_dim, views=self.views.or_else(pair_for(encoder.image_size)).of(2))


class SimCLR(Method):
    """Both views through one encoder and projector; each looks for the other among the whole global batch."""

    def __init__(self, config: SimCLRConfig, encoder: Encoder) -> None:
        super().__init__()
        self.config = config = config.fit(encoder)
        self.views = config.views
        widths = [encoder.dim, *[config.hidden_dim] * (config.projector_layers - 1), config.output_dim]
        head = scaled_mlp(widths) if config.published_projector else mlp(widths, output_norm=True)
        self.student = Branch(encoder, head)
        if config.memory_size:
            self.teacher = MomentumTeacher(self.student)
            self.memory = Queue(config.memory_size, config.output_dim)

    @property
    def encoder(self) -> Encoder:
        return self.student.encoder

    @property
    def projector(self) -> nn.Sequential:
        head = self.student.projector
        assert isinstance(head, nn.Sequential)
        return head

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        views, temperature = torch.cat(batch.views), self.config.temperature
        first, second = (gather(half) for half in self.student(views).chunk(2))
        if not self.config.memory_size:
            return {"contrast": nt_xent(first, second, temperature)}
        self.memory.add(self.teacher(views))
        return {"contrast": nt_xent_with_memory(first, second, self.memory.rows, temperature)}

    def after_step(self, progress: float) -> None:
        if self.config.memory_size:
            self.memory.advance()
            self.teacher.follow(self.student, self.config.memory_momentum)
