"""MoCo v3: contrast predictions with a momentum teacher's keys, without a queue.

Source: Chen, Xie, He, "An Empirical Study of Training Self-Supervised Vision Transformers", 2021.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from stillhouse.data.stream import Batch
from stillhouse.data.views import FOLLOW_IMAGES, ViewPlan, asymmetric_pair_for
from stillhouse.distributed import gather_detached, position
from stillhouse.losses.contrastive import info_nce
from stillhouse.methods.method import Method
from stillhouse.networks.encoder import Encoder
from stillhouse.networks.heads import Branch, head_width, mlp
from stillhouse.networks.teacher import MomentumTeacher
from stillhouse.schedules import cosine


@dataclass(frozen=True, kw_only=True)
class MoCoV3Config:
    """Settings of `MoCoV3`."""

    temperature: Annotated[float, Gt(0)] = 0.2
    momentum: Annotated[float, Interval(ge=0, le=1)] = 0.99
    """Of the teacher at the start; rises to 1 along half a cosine."""
    projector_layers: Annotated[int, Ge(0)] = 0
    """0 follows the encoder: 2 for a convolutional network with batch normalization, else 3."""
    hidden_dim: Annotated[int, Interval(ge=0, le=65536)] = 0
    """Width of the hidden layers of projector and predictor; 0 follows the encoder."""
    output_dim: Annotated[int, Interval(ge=1, le=65536)] = 256
    predictor_norm: Literal["auto", "yes", "no"] = "auto"
    """Whether the predictor's output is normalized over the batch; `auto`: unless the encoder is a convolutional
    network with batch normalization."""
    views: ViewPlan = FOLLOW_IMAGES
    """Empty follows the image size: `data.views.asymmetric_pair_for`."""

    def fit(self, encoder: Encoder) -> "MoCoV3Config":
        """The same settings with what follows from the encoder written out."""
        convolutional = any(isinstance(module, nn.BatchNorm2d) for module in encoder.modules())
        norm = ("no" if convolutional else "yes") if self.predictor_norm == "auto" else self.predictor_norm
        return replace(
            self,
            projector_layers=self.projector_layers or (2 if convolutional else 3),
            hidden_dim=self.hidden_dim or head_width(encoder.dim),
            predictor_norm=norm,
            views=self.views.or_else(asymmetric_pair_for(encoder.image_size)).of(2),
        )


class MoCoV3(Method):
    """Each view's prediction looks for the teacher's key of the other view among all keys of that view.

    The teacher moves after the optimizer step; the official code moves it before the next forward pass, which gives
    the same keys.
    """

    def __init__(self, config: MoCoV3Config, encoder: Encoder) -> None:
        super().__init__()
        self.config = config = config.fit(encoder)
        self.views = config.views
        hidden = [config.hidden_dim] * (config.projector_layers - 1)
        self.student = Branch(encoder, mlp([encoder.dim, *hidden, config.output_dim], output_norm=True))
        widths = [config.output_dim, config.hidden_dim, config.output_dim]
        self.predictor = mlp(widths, output_norm=config.predictor_norm == "yes")
        self.teacher = MomentumTeacher(self.student)
        self.momentum = cosine(config.momentum, 1.0)

    @property
    def encoder(self) -> Encoder:
        """The teacher's."""
        return self.teacher.module.encoder

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        first, second = batch.views
        forth = self._contrast(self.predictor(self.student(first)), self.teacher(second))
        back = self._contrast(self.predictor(self.student(second)), self.teacher(first))
        return {"contrast": forth + back}

    def after_step(self, progress: float) -> None:
        self.teacher.follow(self.student, self.momentum(progress))

    def _contrast(self, query: Tensor, key: Tensor) -> Tensor:
        temperature = self.config.temperature
        return 2 * temperature * info_nce(query, gather_detached(key), temperature, start=position(query))
