"""SDSSL: every depth of an encoder learns from its last, on SimCLR, BYOL or MoCo v3.

Source: Jang, Kim, Yoo, Kong, Kim, Kwak, "Self-Distilled Self-Supervised Representation Learning", WACV 2023, and its
official code.

Letters: B images per process, D_l width after block l, L depths, E width of the projections.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from stillhouse.data.stream import Batch
from stillhouse.data.views import FOLLOW_IMAGES, ViewPlan, asymmetric_pair_for
from stillhouse.distributed import gather, gather_detached, position
from stillhouse.errors import SettingsError
from stillhouse.losses.contrastive import cross_view_nce, info_nce, nt_xent
from stillhouse.losses.regression import cosine_distance
from stillhouse.methods.method import Method
from stillhouse.networks.encoder import Encoder
from stillhouse.networks.heads import Branch, Ladder, head_width, mlp, scale_gradient
from stillhouse.networks.teacher import MomentumTeacher
from stillhouse.schedules import cosine


@dataclass(frozen=True, kw_only=True)
class SDSSLSimCLRConfig:
    """Settings of `SDSSLSimCLR`."""

    temperature: Annotated[float, Gt(0)] = 0.2
    ratio_start: Annotated[float, Ge(0)] = 0.0
    ratio: Annotated[float, Ge(0)] = 0.8
    """Weight of the intermediate term at the end, reached from `ratio_start` along half a cosine."""
    projector_layers: Annotated[int, Ge(1)] = 3
    hidden_dim: Annotated[int, Interval(ge=0, le=65536)] = 0
    """Width of the last depth's hidden layers; 0 follows the encoder."""
    intermediate_hidden_dim: Annotated[int, Interval(ge=0, le=65536)] = 0
    """Width of the other depths' hidden layers; 0 is half of `hidden_dim`."""
    output_dim: Annotated[int, Interval(ge=1, le=65536)] = 256
    views: ViewPlan = FOLLOW_IMAGES
    """Empty follows the image size: `data.views.asymmetric_pair_for`."""

    def fit(self, encoder: Encoder) -> "SDSSLSimCLRConfig":
        """The same settings with what follows from the encoder written out."""
        return replace(self, **_fitting(self, encoder))


@dataclass(frozen=True, kw_only=True)
class SDSSLBYOLConfig:
    """Settings of `SDSSLBYOL`."""

    ratio_start: Annotated[float, Ge(0)] = 0.0
    ratio: Annotated[float, Ge(0)] = 0.8
    """Weight of the intermediate term at the end, reached from `ratio_start` along half a cosine."""
    predictor_weight: Annotated[float, Ge(0)] = 1.0
    """Weight of each predictor's own loss on detached projections; 1 as published, 0 leaves the term out."""
    momentum: Annotated[float, Interval(ge=0, le=1)] = 0.996
    """Of the teacher at the start; rises to 1 along half a cosine."""
    projector_layers: Annotated[int, Ge(1)] = 3
    hidden_dim: Annotated[int, Interval(ge=0, le=65536)] = 0
    """Width of the hidden layers of the last projector and of all predictors; 0 follows the encoder."""
    intermediate_hidden_dim: Annotated[int, Interval(ge=0, le=65536)] = 0
    """Width of the other projectors' hidden layers; 0 is half of `hidden_dim`."""
    output_dim: Annotated[int, Interval(ge=1, le=65536)] = 256
    views: ViewPlan = FOLLOW_IMAGES
    """Empty follows the image size: `data.views.asymmetric_pair_for`."""

    def fit(self, encoder: Encoder) -> "SDSSLBYOLConfig":
        """The same settings with what follows from the encoder written out."""
        return replace(self, **_fitting(self, encoder))


@dataclass(frozen=True, kw_only=True)
class SDSSLMoCoV3Config:
    """Settings of `SDSSLMoCoV3`."""

    temperature: Annotated[float, Gt(0)] = 0.2
    ratio_start: Annotated[float, Ge(0)] = 0.0
    ratio: Annotated[float, Ge(0)] = 1.0
    """Weight of the intermediate term at the end, reached from `ratio_start` along half a cosine."""
    predictor_weight: Annotated[float, Ge(0)] = 1.0
    """Weight of each predictor's own loss on detached projections; 1 as published, 0 leaves the term out."""
    momentum: Annotated[float, Interval(ge=0, le=1)] = 0.996
    """Of the teacher at the start; rises to 1 along half a cosine."""
    projector_layers: Annotated[int, Ge(1)] = 3
    hidden_dim: Annotated[int, Interval(ge=0, le=65536)] = 0
    """Width of the hidden layers of the last projector and of all predictors; 0 follows the encoder."""
    intermediate_hidden_dim: Annotated[int, Interval(ge=0, le=65536)] = 0
    """Width of the other projectors' hidden layers; 0 is half of `hidden_dim`."""
    output_dim: Annotated[int, Interval(ge=1, le=65536)] = 256
    views: ViewPlan = FOLLOW_IMAGES
    """Empty follows the image size: `data.views.asymmetric_pair_for`."""

    def fit(self, encoder: Encoder) -> "SDSSLMoCoV3Config":
        """The same settings with what follows from the encoder written out."""
        return replace(self, **_fitting(self, encoder))


class SDSSLSimCLR(Method):
    """SimCLR at the last depth; the others look for the other view's final embedding, which they cannot move."""

    def __init__(self, config: SDSSLSimCLRConfig, encoder: Encoder) -> None:
        super().__init__()
        self.config = config = config.fit(encoder)
        self.views = config.views
        self.student, self.lower = _projectors(config, encoder, output_norm=True)
        self.ratio = cosine(config.ratio_start, config.ratio)

    @property
    def encoder(self) -> Encoder:
        return self.student.encoder

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        *lower, final = _project(self.student, self.lower, torch.cat(batch.views))
        temperature = self.config.temperature
        first, second = final.chunk(2)
        key = torch.cat([gather_detached(first), gather_detached(second)])
        intermediate = [cross_view_nce(rows, key, temperature, start=position(first)) for rows in lower]
        return {
            "final": nt_xent(gather(first), gather(second), temperature),
            "intermediate": self.ratio(progress) * torch.stack(intermediate).mean(),
        }


class SDSSLBYOL(Method):
    """Every depth predicts the teacher's final projection of the other view, by BYOL's distance."""

    def __init__(self, config: SDSSLBYOLConfig, encoder: Encoder) -> None:
        super().__init__()
        self.config = config = config.fit(encoder)
        self.views = config.views
        self.student, self.lower = _projectors(config, encoder, output_norm=False)
        self.predictors = _predictors(config, len(encoder.block_dims), output_norm=False)
        self.teacher = MomentumTeacher(self.student)
        self.ratio, self.momentum = cosine(config.ratio_start, config.ratio), cosine(config.momentum, 1.0)

    @property
    def encoder(self) -> Encoder:
        """The teacher's, as published."""
        return self.teacher.module.encoder

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        first, second = batch.views
        return _both(self._direction(first, second, progress), self._direction(second, first, progress))

    def after_step(self, progress: float) -> None:
        self.teacher.follow(self.student, self.momentum(progress))

    def _direction(self, view: Tensor, other: Tensor, progress: float) -> dict[str, Tensor]:
        projections, target = _project(self.student, self.lower, view), self.teacher(other)

        def distance(prediction: Tensor) -> Tensor:
            return cosine_distance(prediction, target)

        return depth_terms(projections, self.predictors, distance, self.ratio(progress), self.config.predictor_weight)


class SDSSLMoCoV3(Method):
    """Every depth looks for the teacher's final key of the other view among all keys of that view."""

    def __init__(self, config: SDSSLMoCoV3Config, encoder: Encoder) -> None:
        super().__init__()
        self.config = config = config.fit(encoder)
        self.views = config.views
        self.student, self.lower = _projectors(config, encoder, output_norm=True)
        self.predictors = _predictors(config, len(encoder.block_dims), output_norm=True)
        self.teacher = MomentumTeacher(self.student)
        self.ratio, self.momentum = cosine(config.ratio_start, config.ratio), cosine(config.momentum, 1.0)

    @property
    def encoder(self) -> Encoder:
        """The teacher's, as published."""
        return self.teacher.module.encoder

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        first, second = batch.views
        return _both(self._direction(first, second, progress), self._direction(second, first, progress))

    def after_step(self, progress: float) -> None:
        self.teacher.follow(self.student, self.momentum(progress))

    def _direction(self, view: Tensor, other: Tensor, progress: float) -> dict[str, Tensor]:
        projections, key = _project(self.student, self.lower, view), gather_detached(self.teacher(other))
        temperature = self.config.temperature

        def contrast(prediction: Tensor) -> Tensor:
            return 2 * temperature * info_nce(prediction, key, temperature, start=position(prediction))

        return depth_terms(projections, self.predictors, contrast, self.ratio(progress), self.config.predictor_weight)


def depth_terms(
    projections: Sequence[Tensor],
    predictors: Iterable[nn.Module],
    loss: Callable[[Tensor], Tensor],
    ratio: float,
    predictor_weight: float,
) -> dict[str, Tensor]:
    """The three terms of one direction, with every predictor run once.

    As published, a predictor sees each projection twice: attached, at weight 1 (last depth) or `ratio / (L - 1)`, and
    detached, at `predictor_weight`. Both passes have the same value, so one pass serves: its loss carries the sum of
    both weights, and the gradient that leaves the predictor is scaled back to the attached share. Values and gradients
    are those of two passes; only the predictors' running statistics, which nothing reads in training, move once
    instead of twice.

    Args:
        projections: one `[B, E]` per depth, the last depth last.
        predictors: one module per depth.
        loss: from predictions `[B, E]` to a scalar, a mean over rows.
        ratio: weight of the intermediate term.
        predictor_weight: weight of the predictor term; 1 as published (a mean over depths times L is their sum).

    Returns:
        `final`, `intermediate` (mean over the L - 1 lower depths, times ratio) and `predictor` (sum over all depths,
        times its weight); their sum is what training minimizes.
    """
    shares = [ratio / (len(projections) - 1)] * (len(projections) - 1) + [1.0]
    losses = []
    for rows, predictor, share in zip(projections, predictors, shares, strict=True):
        weight = share + predictor_weight
        losses.append(loss(predictor(scale_gradient(rows, share / weight if weight else 0.0))))
    return {
        "final": losses[-1],
        "intermediate": shares[0] * torch.stack(losses[:-1]).sum(),
        "predictor": predictor_weight * torch.stack(losses).sum(),
    }


_Config = SDSSLSimCLRConfig | SDSSLBYOLConfig | SDSSLMoCoV3Config


def _fitting(config: _Config, encoder: Encoder) -> dict[str, Any]:
    hidden = config.hidden_dim or head_width(encoder.dim)
    return {
        "hidden_dim": hidden,
        "intermediate_hidden_dim": config.intermediate_hidden_dim or max(1, hidden // 2),
        "views": config.views.or_else(asymmetric_pair_for(encoder.image_size)).of(2),
    }


def _projectors(config: _Config, encoder: Encoder, *, output_norm: bool) -> tuple[Branch, Ladder]:
    """The encoder with its final projector, and the projectors of the depths below."""
    if len(encoder.block_dims) < 2:
        raise SettingsError("encoder.name: this encoder has one depth only; SDSSL needs two or more, choose another")

    def projector(dim: int, hidden_dim: int) -> nn.Module:
        widths = [dim, *[hidden_dim] * (config.projector_layers - 1), config.output_dim]
        return mlp(widths, output_norm=output_norm)

    lower = Ladder(projector(dim, config.intermediate_hidden_dim) for dim in encoder.block_dims[:-1])
    return Branch(encoder, projector(encoder.dim, config.hidden_dim)), lower


def _predictors(config: SDSSLBYOLConfig | SDSSLMoCoV3Config, depths: int, *, output_norm: bool) -> Ladder:
    widths = [config.output_dim, config.hidden_dim, config.output_dim]
    return Ladder(mlp(widths, output_norm=output_norm) for _ in range(depths))


def _project(student: Branch, lower: Ladder, images: Tensor) -> list[Tensor]:
    """Projections of every depth from one pass, the last depth last, L of `[B, E]`."""
    features = student.encoder.features(images)
    return [*lower(features.blocks[:-1]), student.projector(features.pooled)]


def _both(forth: dict[str, Tensor], back: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: forth[name] + back[name] for name in forth}
