"""Heads: the perceptrons behind an encoder that training needs and the user does not.

Letters: B rows, L depths.
"""

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillhouse.networks.encoder import Encoder


def mlp(widths: Sequence[int], *, output_norm: bool) -> nn.Sequential:
    """Linear layers without bias; BatchNorm and ReLU between them, and a BatchNorm without scale at the end if asked.

    Args:
        widths: of the input, of each hidden layer and of the output.
        output_norm: whether the output is normalized over the batch.

    Source: heads of MoCo v3 and SDSSL.
    """
    layers: list[nn.Module] = []
    for position, (before, after) in enumerate(pairwise(widths)):
        if position:
            layers += [nn.BatchNorm1d(before), nn.ReLU(inplace=True)]
        layers.append(nn.Linear(before, after, bias=False))
    if output_norm:
        layers.append(nn.BatchNorm1d(widths[-1], affine=False))
    return nn.Sequential(*layers)


def scaled_mlp(widths: Sequence[int]) -> nn.Sequential:
    """`mlp` as the SimCLR code has it: weights drawn from N(0, 0.01), and a scale in the last normalization.

    No shift there: it stays at 0.

    Source: released code of SimCLR and SimCLRv2.
    """
    head = mlp(widths, output_norm=False)
    for layer in head:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
    norm = nn.BatchNorm1d(widths[-1])
    norm.bias.requires_grad_(False)
    return head.append(norm)


def layer_widths(head: nn.Sequential) -> list[int]:
    """Output width of every linear layer of an `mlp`."""
    return [layer.out_features for layer in head if isinstance(layer, nn.Linear)]


def first_layers(head: nn.Sequential, count: int) -> nn.Sequential:
    """A copy of the first `count` hidden layers of an `mlp`, each with its normalization and ReLU."""
    assert count < len(layer_widths(head))
    return copy.deepcopy(head[: 3 * count])


def head_width(encoder_dim: int) -> int:
    """Hidden width that suits an encoder: about five times its own, in steps of 512, at most 4096.

    1024 for a tiny, 2048 for a small and the published 4096 for a base vision transformer.
    """
    return min(4096, -(-5 * encoder_dim // 512) * 512)


class Branch(nn.Module):
    """An encoder with a projector on its image vector."""

    def __init__(self, encoder: Encoder, projector: nn.Module) -> None:
        super().__init__()
        self.encoder, self.projector = encoder, projector

    def forward(self, images: Tensor) -> Tensor:
        """Projections `[B, E]` of images `[B, 3, H, W]`."""
        return self.projector(self.encoder(images))  # type: ignore[no-any-return]


class PrototypeHead(nn.Module):
    """A perceptron of GELUs, then the cosine to each of K prototypes, times the prototype's length.

    Args:
        widths: of the input, of each hidden layer and of what is compared with the prototypes.
        num_prototypes: K.
        learn_norm: whether lengths learn; they start at 1.

    Source: Caron et al. 2021 (DINO), projection head.
    """

    def __init__(self, widths: Sequence[int], num_prototypes: int, *, learn_norm: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for position, (before, after) in enumerate(pairwise(widths)):
            layers += [nn.GELU()] * bool(position)
            linear = nn.Linear(before, after)
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
            layers.append(linear)
        self.perceptron = nn.Sequential(*layers)
        self.directions = nn.Parameter(torch.empty(num_prototypes, widths[-1]))
        self.lengths = nn.Parameter(torch.ones(num_prototypes), requires_grad=learn_norm)
        nn.init.trunc_normal_(self.directions, std=0.02)

    def forward(self, rows: Tensor) -> Tensor:
        """Scores `[..., K]` of rows `[..., D]`."""
        return self.score(rows, learn_prototypes=True)

    def score(self, rows: Tensor, *, learn_prototypes: bool) -> Tensor:
        """Scores `[..., K]`; with `learn_prototypes` off the prototypes get a gradient of zeros."""
        prototypes = F.normalize(self.directions, dim=1) * self.lengths[:, None]
        prototypes = scale_gradient(prototypes, float(learn_prototypes))
        return F.linear(F.normalize(self.perceptron(rows), dim=-1), prototypes)


class Ladder(nn.ModuleList):
    """One head per depth, nothing shared."""

    def forward(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """Output of each head for the rows of its depth, L of `[B, E]`."""
        return [head(row) for head, row in zip(self, rows, strict=True)]


def scale_gradient(rows: Tensor, factor: float) -> Tensor:
    """The rows themselves, through which only `factor` of the gradient flows back."""
    return _ScaleGradient.apply(rows, factor)  # type: ignore[no-any-return]


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return rows.view_as(rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None
