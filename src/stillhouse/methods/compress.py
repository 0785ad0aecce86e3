"""CompRess with one queue: similarities to a frozen teacher's past vectors, without the image's own.

Source: Abbasi Koohpayegani, Tejankar, Pirsiavash, "CompRess: Self-Supervised Learning by Compressing Representations",
2020; the one-queue form, which the paper finds better under a linear probe.
"""

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from stillhouse.data.stream import Batch
from stillhouse.data.views import FOLLOW_IMAGES, WEAK, ViewPlan
from stillhouse.losses.similarity import similarity_divergence
from stillhouse.methods.method import Method
from stillhouse.networks.encoder import Encoder
from stillhouse.networks.heads import Branch
from stillhouse.networks.queue import Queue
from stillhouse.networks.teacher import FrozenTeacher


@dataclass(frozen=True, kw_only=True)
class CompRessConfig:
    """Settings of `CompRess`."""

    temperature: Annotated[float, Gt(0)] = 0.04
    queue_size: Annotated[int, Ge(1)] = 128_000
    """Teacher vectors kept; for few images well below their number (4096 in the recipe)."""
    views: ViewPlan = FOLLOW_IMAGES
    """Empty is one weakly changed view: crop and flip."""

    def fit(self, encoder: Encoder) -> "CompRessConfig":
        """The same settings with what follows from the encoder written out."""
        return replace(self, views=self.views.or_else(WEAK))


class CompRess(Method):
    """One linear layer brings the student to the teacher's width; both look at the same view and the same queue."""

    def __init__(self, config: CompRessConfig, encoder: Encoder, teacher: FrozenTeacher) -> None:
        super().__init__()
        self.config = config = config.fit(encoder)
        self.views = config.views
        self.teacher = teacher
        self.student = Branch(encoder, nn.Linear(encoder.dim, teacher.dim))
        self.queue = Queue(config.queue_size, teacher.dim)

    @property
    def encoder(self) -> Encoder:
        return self.student.encoder

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        terms = [self._compare(view, batch.ask(self.teacher, place)) for place, view in enumerate(batch.views)]
        return {"similarity": torch.stack(terms).mean()}

    def after_step(self, progress: float) -> None:
        self.queue.advance()

    def _compare(self, view: Tensor, wanted: Tensor) -> Tensor:
        rows = self.queue.rows
        self.queue.add(wanted)
        return similarity_divergence(self.student(view), wanted, rows, rows, self.config.temperature)
