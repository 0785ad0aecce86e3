"""DoGo: two encoders learn together, each also from how the other sees the batch.

Source: Bhat, Arani, Zonooz, "Distill on the Go: Online knowledge distillation in self-supervised learning", 2021.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from stillhouse.data.stream import Batch
from stillhouse.data.views import FOLLOW_IMAGES, ViewPlan, four_for
from stillhouse.distributed import gather, gather_detached
from stillhouse.losses.contrastive import nt_xent
from stillhouse.losses.regression import cosine_distance, negative_cosine
from stillhouse.losses.similarity import cross_view_divergence
from stillhouse.methods.method import Method
from stillhouse.networks.encoder import Encoder
from stillhouse.networks.heads import Branch, head_width, mlp
from stillhouse.networks.teacher import MomentumTeacher
from stillhouse.schedules import SCHEDULES

Objective = Literal["simclr", "simsiam", "byol"]


@dataclass(frozen=True, kw_only=True)
class DoGoConfig:
    """Settings of `DoGo`."""

    objective: Objective = "simclr"
    """What the encoder learns by itself."""
    peer_objective: Objective = "simclr"
    """What the peer learns by itself."""
    temperature: Annotated[float, Gt(0)] = 0.5
    """Of SimCLR's contrast."""
    distillation_temperature: Annotated[float, Gt(0)] = 0.1
    distillation_weight: Annotated[float, Ge(0)] = 0.39
    """Of what the encoder learns from its peer, for a mean over images. The paper's lambda is for a mean over all
    N x N similarities, so divide it by the batch size: 100 / 256."""
    peer_distillation_weight: Annotated[float, Ge(0)] = 0.39
    """Of what the peer learns from the encoder."""
    weight_schedule: Literal["constant", "ramp_up", "ramp_down"] = "constant"
    """Whether both weights stay, rise from 0, or fall to 0 in a straight line over training."""
    momentum: Annotated[float, Interval(ge=0, le=1)] = 0.99
    """Of BYOL's moving average."""
    hidden_dim: Annotated[int, Interval(ge=0, le=65536)] = 0
    """Width of the heads' hidden layers; 0 is what each objective was published with."""
    output_dim: Annotated[int, Interval(ge=0, le=65536)] = 0
    """Width of the projections; 0 is what each objective was published with."""
    views: ViewPlan = FOLLOW_IMAGES
    """Empty follows the image size: `data.views.four_for`, two for the encoder and two for its peer, as published; a
    plan of two is shown to both."""

    def fit(self, encoder: Encoder) -> "DoGoConfig":
        """The same settings with what follows from the encoder written out."""
        return replace(self, views=self.views.or_else(four_for(encoder.image_size)).of(2, 4))


@dataclass(frozen=True)
class Opinion:
    """What one learner makes of its two views of N images."""

    loss: Tensor
    """Of its own objective."""
    learning: tuple[Tensor, Tensor]
    """Rows of both views that the objective optimizes, `[N, E]` each."""
    regressed: tuple[Tensor, Tensor]
    """Rows of both views that the objective aims at, without gradient."""


class DoGo(Method):
    """Each learner has its own objective and views; a second term pulls its similarities inside the batch, of one
    view to the other, towards its peer's.

    Each view passes a network by itself. No gradient crosses between the learners.
    """

    def __init__(self, config: DoGoConfig, encoder: Encoder, peer: Encoder) -> None:
        super().__init__()
        self.config = config = config.fit(encoder)
        self.views = config.views
        self.own = _Learner(config, config.objective, encoder)
        self.other = _Learner(config, config.peer_objective, peer)
        self.schedule = SCHEDULES[config.weight_schedule]

    @property
    def encoder(self) -> Encoder:
        return self.own.branch.encoder

    @property
    def peer(self) -> Encoder:
        return self.other.branch.encoder

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        config, share = self.config, self.schedule(progress)
        own = self.own(*batch.views[:2])
        other = self.other(*batch.views[-2:])
        return {
            "own": own.loss,
            "peer": other.loss,
            "own_from_peer": share * config.distillation_weight * self._learn(own, other),
            "peer_from_own": share * config.peer_distillation_weight * self._learn(other, own),
        }

    def after_step(self, progress: float) -> None:
        self.own.follow()
        self.other.follow()

    def _learn(self, student: Opinion, target: Opinion) -> Tensor:
        """Between SimCLR and SimSiam the target is what SimSiam optimizes; elsewhere, what it aims at."""
        mixed = {self.config.objective, self.config.peer_objective} == {"simclr", "simsiam"}
        wanted = target.learning if mixed else target.regressed
        return cross_view_divergence(
            gather(student.learning[0]), gather(student.learning[1]),
            gather_detached(wanted[0]), gather_detached(wanted[1]),
            self.config.distillation_temperature,
        )  # fmt: skip


class _Learner(nn.Module):
    """An encoder with the heads and the loss of one objective."""

    def __init__(self, config: DoGoConfig, objective: Objective, encoder: Encoder) -> None:
        super().__init__()
        self.config, self.objective = config, objective
        published = {"simclr": (512, 128), "simsiam": (2048, 2048), "byol": (head_width(encoder.dim), 256)}[objective]
        hidden, output = config.hidden_dim or published[0], config.output_dim or published[1]
        if objective == "simsiam":
            self.branch = Branch(encoder, mlp([encoder.dim, hidden, hidden, output], output_norm=True))
            self.predictor = mlp([output, max(1, output // 4), output], output_norm=False)
        else:
            self.branch = Branch(encoder, mlp([encoder.dim, hidden, output], output_norm=False))
        if objective == "byol":
            self.predictor = mlp([output, hidden, output], output_norm=False)
            self.teacher = MomentumTeacher(self.branch)

    def forward(self, first: Tensor, second: Tensor) -> Opinion:
        rows = self.branch(first), self.branch(second)
        still = rows[0].detach(), rows[1].detach()
        if self.objective == "simclr":
            loss = nt_xent(gather(rows[0]), gather(rows[1]), self.config.temperature)
            return Opinion(loss, rows, still)
        predictions = self.predictor(rows[0]), self.predictor(rows[1])
        if self.objective == "simsiam":
            loss = (negative_cosine(predictions[0], still[1]) + negative_cosine(predictions[1], still[0])) / 2
            return Opinion(loss, predictions, still)
        targets = self.teacher(first), self.teacher(second)
        loss = cosine_distance(predictions[0], targets[1]) + cosine_distance(predictions[1], targets[0])
        return Opinion(loss, predictions, targets)

    def follow(self) -> None:
        if self.objective == "byol":
            self.teacher.follow(self.branch, self.config.momentum)
