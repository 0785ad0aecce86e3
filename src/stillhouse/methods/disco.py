"""DisCo: MoCo v2 on the student, and the frozen teacher's vector of every view as a second goal.

Source: Gao, Zhuang, Lin, Cheng, Sun, Li, Shen, "DisCo: Remedy Self-supervised Learning on Lightweight Models with
Distilled Contrastive Learning", 2022.
"""

from dataclasses import dataclass, replace
from typing import Annotated

from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from stillhouse.data.stream import Batch
from stillhouse.data.views import FOLLOW_IMAGES, ViewPlan, pair_for
from stillhouse.losses.contrastive import queue_nce
from stillhouse.losses.regression import cosine_distance
from stillhouse.methods.method import Method
from stillhouse.networks.encoder import Encoder
from stillhouse.networks.heads import Branch
from stillhouse.networks.queue import Queue
from stillhouse.networks.teacher import FrozenTeacher, MomentumTeacher


@dataclass(frozen=True, kw_only=True)
class DisCoConfig:
    """Settings of `DisCo`."""

    temperature: Annotated[float, Gt(0)] = 0.2
    momentum: Annotated[float, Interval(ge=0, le=1)] = 0.999
    queue_size: Annotated[int, Ge(1)] = 65536
    """Momentum keys kept; for few images well below their number (4096 in the recipe)."""
    distance_weight: Annotated[float, Ge(0)] = 32.0
    """Factor of each view's mean squared distance; the official code sums over the 32 images of a process."""
    hidden_dim: Annotated[int, Interval(ge=1, le=65536)] = 2048
    """Width of the student's head; a wide one is part of the method."""
    views: ViewPlan = FOLLOW_IMAGES
    """Empty follows the image size: `data.views.pair_for`. Exactly two views."""

    def fit(self, encoder: Encoder) -> "DisCoConfig":
        """The same settings with what follows from the encoder written out."""
        return replace(self, views=self.views.or_else(pair_for(encoder.image_size)).of(2))


class DisCo(Method):
    """The first view's query looks for the second view's momentum key; both views' queries go to the teacher's."""

    def __init__(self, config: DisCoConfig, encoder: Encoder, teacher: FrozenTeacher) -> None:
        super().__init__()
        self.config = config = config.fit(encoder)
        self.views = config.views
        self.teacher = teacher
        head = nn.Sequential(
            nn.Linear(encoder.dim, config.hidden_dim), nn.ReLU(inplace=True), nn.Linear(config.hidden_dim, teacher.dim)
        )
        self.student = Branch(encoder, head)
        self.momentum_teacher = MomentumTeacher(self.student)
        self.queue = Queue(config.queue_size, teacher.dim)

    @property
    def encoder(self) -> Encoder:
        return self.student.encoder

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        first, second = batch.views
        query, other, key = self.student(first), self.student(second), self.momentum_teacher(second)
        self.queue.add(key)
        distance = cosine_distance(query, batch.ask(self.teacher, 0)) + cosine_distance(
            other, batch.ask(self.teacher, 1)
        )
        return {
            "contrast": queue_nce(query, key, self.queue.rows, self.config.temperature),
            "distance": self.config.distance_weight * distance,
        }

    def after_step(self, progress: float) -> None:
        self.momentum_teacher.follow(self.student, self.config.momentum)
        self.queue.advance()
