"""SEED: a small encoder sees a queue of images as its frozen teacher sees them.

Source: Fang, Wang, Wang, Zhang, Yang, Liu, "SEED: Self-supervised Distillation for Visual Representation", 2021.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from stillhouse.data.stream import Batch
from stillhouse.data.views import FOLLOW_IMAGES, ViewPlan, single_for
from stillhouse.losses.similarity import seed_cross_entropy
from stillhouse.methods.method import Method
from stillhouse.networks.encoder import Encoder
from stillhouse.networks.heads import Branch
from stillhouse.networks.queue import Queue
from stillhouse.networks.teacher import FrozenTeacher


@dataclass(frozen=True, kw_only=True)
class SEEDConfig:
    """Settings of `SEED`."""

    student_temperature: Annotated[float, Gt(0)] = 0.2
    teacher_temperature: Annotated[float, Gt(0)] = 0.01
    queue_size: Annotated[int, Ge(1)] = 65536
    """Teacher vectors kept; for few images well below their number (4096 in the recipe)."""
    hidden_dim: Annotated[int, Interval(ge=0, le=65536)] = 0
    """Width of the student's head; 0 is the encoder's own, as published; 2048 gives a ResNet-18 two points more."""
    views: ViewPlan = FOLLOW_IMAGES
    """Empty is one view for the image size. Further views are small patches, with a queue of their own."""

    def fit(self, encoder: Encoder) -> "SEEDConfig":
        """The same settings with what follows from the encoder written out."""
        views = self.views.or_else(single_for(encoder.image_size))
        return replace(self, hidden_dim=self.hidden_dim or encoder.dim, views=views)


class SEED(Method):
    """Student and teacher look at the same view and compare it with the same past teacher vectors.

    With more than one view in the plan, the first is the global one; of the others, the small patches, the first is
    queued, and their term is the mean over all of them.
    """

    def __init__(self, config: SEEDConfig, encoder: Encoder, teacher: FrozenTeacher) -> None:
        super().__init__()
        self.config = config = config.fit(encoder)
        self.views = config.views
        self.teacher = teacher
        head = nn.Sequential(
            nn.Linear(encoder.dim, config.hidden_dim), nn.ReLU(inplace=True), nn.Linear(config.hidden_dim, teacher.dim)
        )
        self.student = Branch(encoder, head)
        kinds = 1 if config.views.num_views == 1 else 2
        self.queues = nn.ModuleList(Queue(config.queue_size, teacher.dim) for _ in range(kinds))

    @property
    def encoder(self) -> Encoder:
        return self.student.encoder

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        terms = {"similarity": self._compare(batch, [0], self.queues[0])}
        if patches := range(1, len(batch.views)):
            terms["patch_similarity"] = self._compare(batch, patches, self.queues[1])
        return terms

    def after_step(self, progress: float) -> None:
        for queue in self.queues:
            queue.advance()  # type: ignore[operator]

    def _compare(self, batch: Batch, places: Sequence[int], queue: nn.Module) -> Tensor:
        config = self.config
        assert isinstance(queue, Queue)
        views, wanted = torch.cat([batch.views[place] for place in places]), batch.ask(self.teacher, *places)
        queue.add(wanted[: len(batch.views[0])])
        return seed_cross_entropy(
            self.student(views), wanted, queue.rows, config.student_temperature, config.teacher_temperature
        )
