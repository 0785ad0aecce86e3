"""BYOL: predict what a moving average of yourself sees in the other view.

Source: Grill et al., "Bootstrap your own latent", 2020.
"""

from dataclasses import dataclass, replace
from typing import Annotated

from annotated_types import Ge, Interval
from torch import Tensor

from stillhouse.data.stream import Batch
from stillhouse.data.views import FOLLOW_IMAGES, ViewPlan, asymmetric_pair_for
from stillhouse.losses.regression import cosine_distance
from stillhouse.methods.method import Method
from stillhouse.networks.encoder import Encoder
from stillhouse.networks.heads import Branch, head_width, mlp
from stillhouse.networks.teacher import MomentumTeacher
from stillhouse.schedules import cosine


@dataclass(frozen=True, kw_only=True)
class BYOLConfig:
    """Settings of `BYOL`."""

    momentum: Annotated[float, Interval(ge=0, le=1)] = 0.99
    """Of the teacher at the start; rises to 1 along half a cosine."""
    projector_layers: Annotated[int, Ge(1)] = 2
    hidden_dim: Annotated[int, Interval(ge=0, le=65536)] = 0
    """Width of the hidden layers of projector and predictor; 0 follows the encoder."""
    output_dim: Annotated[int, Interval(ge=1, le=65536)] = 256
    views: ViewPlan = FOLLOW_IMAGES
    """Empty follows the image size: `data.views.asymmetric_pair_for`."""

    def fit(self, encoder: Encoder) -> "BYOLConfig":
        """The same settings with what follows from the encoder written out."""
        hidden_dim = self.hidden_dim or head_width(encoder.dim)
        return replace(
            self, hidden_dim=hidden_dim, views=self.views.or_else(asymmetric_pair_for(encoder.image_size)).of(2)
        )


class BYOL(Method):
    """Each view's prediction meets the teacher's projection of the other view; no image is a negative.

    Views pass separately, so that batch normalization sees one view at a time. Heads carry no output normalization
    and, a difference from the official code, no bias in their last layer.
    """

    def __init__(self, config: BYOLConfig, encoder: Encoder) -> None:
        super().__init__()
        self.config = config = config.fit(encoder)
        self.views = config.views
        hidden = [config.hidden_dim] * (config.projector_layers - 1)
        self.student = Branch(encoder, mlp([encoder.dim, *hidden, config.output_dim], output_norm=False))
        self.predictor = mlp([config.output_dim, config.hidden_dim, config.output_dim], output_norm=False)
        self.teacher = MomentumTeacher(self.student)
        self.momentum = cosine(config.momentum, 1.0)

    @property
    def encoder(self) -> Encoder:
        """The teacher's, as published."""
        return self.teacher.module.encoder

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        first, second = batch.views
        forth = cosine_distance(self.predictor(self.student(first)), self.teacher(second))
        back = cosine_distance(self.predictor(self.student(second)), self.teacher(first))
        return {"distance": forth + back}

    def after_step(self, progress: float) -> None:
        self.teacher.follow(self.student, self.momentum(progress))
