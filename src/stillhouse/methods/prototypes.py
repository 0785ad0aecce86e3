"""What DINO and EsViT share: settings of a momentum teacher that scores prototypes, and the heads that do.

Source: Caron, Touvron, Misra, Jegou, Mairal, Bojanowski, Joulin, "Emerging Properties in Self-Supervised Vision
Transformers", 2021.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Self

from annotated_types import Ge, Gt, Interval

from stillhouse.data.views import FOLLOW_IMAGES, ViewPlan, multi_crop_for
from stillhouse.networks.encoder import Encoder
from stillhouse.networks.heads import PrototypeHead, head_width
from stillhouse.schedules import Schedule, rise


@dataclass(frozen=True, kw_only=True)
class PrototypesConfig:
    """Settings that DINO and EsViT share."""

    student_temperature: Annotated[float, Gt(0)] = 0.1
    teacher_temperature: Annotated[float, Gt(0)] = 0.04
    """At the end of its rise, and from then on; published up to 0.07."""
    teacher_temperature_start: Annotated[float, Gt(0)] = 0.04
    teacher_temperature_rise: Annotated[float, Interval(ge=0, le=1)] = 0.1
    """Share of training in which it goes from start to end in a straight line."""
    momentum: Annotated[float, Interval(ge=0, le=1)] = 0.996
    """Of the teacher at the start; rises to 1 along half a cosine. Small batches want more: 0.9995 at 256."""
    center_momentum: Annotated[float, Interval(ge=0, le=1)] = 0.9
    num_prototypes: Annotated[int, Ge(2)] = 65536
    """K of each head; some thousands are enough for small data."""
    hidden_dim: Annotated[int, Interval(ge=0, le=65536)] = 0
    """Width of each head's hidden layers; 0 follows the encoder, up to the published 2048."""
    bottleneck_dim: Annotated[int, Ge(1)] = 256
    """Width of what is compared with the prototypes."""
    learn_prototype_norm: bool = False
    """Whether the prototypes' lengths learn, too; less stable, and a little better for large networks."""
    prototypes_frozen: Annotated[float, Interval(ge=0, le=1)] = 0.01
    """Share of training at the start in which the prototypes do not learn; published as the first epoch."""
    views: ViewPlan = FOLLOW_IMAGES
    """Empty follows the image size: `data.views.multi_crop_for`. The teacher sees the leading views of full size."""

    def fit(self, encoder: Encoder) -> Self:
        """The same settings with what follows from the encoder written out."""
        hidden_dim = self.hidden_dim or min(2048, head_width(encoder.dim))
        return replace(self, hidden_dim=hidden_dim, views=self.views.or_else(multi_crop_for(encoder.image_size)))


def prototype_head(config: PrototypesConfig, dim: int) -> PrototypeHead:
    """A head for rows of this width."""
    widths = [dim, config.hidden_dim, config.hidden_dim, config.bottleneck_dim]
    return PrototypeHead(widths, config.num_prototypes, learn_norm=config.learn_prototype_norm)


def teacher_temperature(config: PrototypesConfig) -> Schedule:
    """The teacher's temperature over training."""
    return rise(config.teacher_temperature_start, config.teacher_temperature, config.teacher_temperature_rise)
