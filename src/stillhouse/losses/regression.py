"""Losses that pull a prediction towards its target."""

import torch
from torch import Tensor
from torch.nn import functional as F


def cosine_distance(prediction: Tensor, target: Tensor) -> Tensor:
    """Squared distance of unit vectors, `2 - 2 cos`, mean over `[B, D]` rows; in [0, 4].

    0 for equal directions, 2 for orthogonal ones, 4 for opposite ones; the scale of either side does not matter.
    Gradient flows into both sides, so detach the target where it has to stay.

    Source: Grill et al. 2020 (BYOL), equation 2.
    """
    dtype = torch.promote_types(prediction.dtype, torch.float32)
    return (2.0 - 2.0 * F.cosine_similarity(prediction.to(dtype), target.to(dtype), dim=-1)).mean()


def negative_cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """`-cos`, mean over `[B, D]` rows; in [-1, 1]. Gradient flows into both sides.

    Source: Chen and He 2021 (SimSiam), equation 1.
    """
    return cosine_distance(prediction, target) / 2.0 - 1.0
