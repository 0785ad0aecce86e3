"""Losses that compare the relations among a student's vectors with those among its teacher's.

Letters: B images, D_s and D_t widths, which may differ unless said otherwise. All run in at least float32; no gradient
flows into the teacher's side. Sources are the papers named, in the reductions of Tian et al. 2020 (CRD), whose weights
stand in docs/losses.md.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def similarity_preserving(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference of the row-normalized B x B inner products, over B squared.

    0 when both sides agree up to a rotation and a common scale.

    Args:
        student: features of any shape `[B, ...]`, flattened here.
        teacher: features of any shape `[B, ...]`.

    Source: Tung and Mori 2019 (SP), equation 4.
    """
    own, wanted = (F.normalize(rows @ rows.T, dim=1) for rows in _rows(student, teacher))
    return (own - wanted).square().sum() / len(own) ** 2


def relational_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Smooth L1 between pairwise distances, each side's divided by its mean distance.

    The mean is over pairs of different places, the loss over all B x B entries. Does not see the scale of either side.

    Args:
        student: `[B, D_s]`.
        teacher: `[B, D_t]`.

    Source: Park et al. 2019 (RKD), equation 6.
    """
    own, wanted = (_relative(_distances(rows)) for rows in _rows(student, teacher))
    return F.smooth_l1_loss(own, wanted)


def relational_angle(student: Tensor, teacher: Tensor) -> Tensor:
    """Smooth L1 between the cosines of all angles that two images span at a third; mean over B x B x B.

    Args:
        student: `[B, D_s]`.
        teacher: `[B, D_t]`.

    Source: Park et al. 2019 (RKD), equation 8.
    """
    own, wanted = map(_angles, _rows(student, teacher))
    return F.smooth_l1_loss(own, wanted)


def probabilistic_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """Divergence of the student's from the teacher's shares of cosine similarity; mean over B x B.

    Cosines are brought to [0, 1] and every row to sum 1; an image's similarity to itself is in its row.

    Args:
        student: `[B, D_s]`.
        teacher: `[B, D_t]`.

    Source: Passalis and Tefas 2018 (PKT), equations 4 to 6.
    """
    own, wanted = map(_shares, _rows(student, teacher))
    eps = 1e-7
    return (wanted * ((wanted + eps) / (own + eps)).log()).mean()


def correlation_congruence(student: Tensor, teacher: Tensor) -> Tensor:
    """How much the student's errors on neighbouring images of the batch coincide; mean over B - 1 neighbours.

    Args:
        student: `[B, D]`, brought to a common width by a linear layer.
        teacher: `[B, D]`, likewise.

    Source: Peng et al. 2019 (CC), as released with CRD.
    """
    own, wanted = _rows(student, teacher)
    error = (own - wanted).abs()
    return (error[:-1] * error[1:]).sum(1).mean()


def variational_information(mean: Tensor, target: Tensor, variance: Tensor) -> Tensor:
    """Gaussian negative log-likelihood of the teacher's features, without its constant; mean over all elements.

    Half the mean log-variance when the prediction is exact.

    Args:
        mean: prediction from the student, the shape of `target`.
        target: the teacher's features; no gradient flows into them.
        variance: above 0, broadcast against `target`.

    Source: Ahn et al. 2019 (VID), equation 5.
    """
    dtype = torch.promote_types(mean.dtype, torch.float32)
    variance = variance.to(dtype)
    return (0.5 * ((mean.to(dtype) - target.detach().to(dtype)).square() / variance + variance.log())).mean()


def _rows(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both as matrices of at least float32, the teacher's without gradient."""
    dtype = torch.promote_types(student.dtype, torch.float32)
    return student.flatten(1).to(dtype), teacher.detach().flatten(1).to(dtype)


def _distances(rows: Tensor) -> Tensor:
    """Distances of all pairs, `[B, B]`, with a gradient of 0 where rows coincide."""
    squares = (rows[:, None] - rows[None]).square().sum(2)
    apart = squares > 0
    return torch.where(apart, squares.where(apart, squares.new_ones(())).sqrt(), 0.0)


def _relative(distances: Tensor) -> Tensor:
    mean = distances.sum() / (distances > 0).sum().clamp(min=1)
    return distances / mean.clamp(min=torch.finfo(distances.dtype).tiny)


def _angles(rows: Tensor) -> Tensor:
    """Cosine of the angle at i between j and k, `[B, B, B]`."""
    directions = F.normalize(rows[None] - rows[:, None], dim=2)
    return directions @ directions.mT


def _shares(rows: Tensor) -> Tensor:
    rows = F.normalize(rows, dim=1)
    similarity = (rows @ rows.T + 1.0) / 2.0
    return similarity / similarity.sum(1, keepdim=True)
