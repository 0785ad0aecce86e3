"""Losses that compare class scores.

Letters: B images, C classes.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of softened class scores; the teacher's entropy when both agree.

    Scaling scores and temperature together changes nothing. Carries no factor of the squared temperature.

    Args:
        student: scores `[B, C]`.
        teacher: scores `[B, C]`; no gradient flows into them.
        temperature: divides both; above 0.

    Returns:
        Mean over the B images, in nats.

    Source: Chen et al. 2020 (SimCLRv2), equation 2.
    """
    dtype = torch.promote_types(student.dtype, torch.float32)
    target = (teacher.detach().to(dtype) / temperature).softmax(1)
    return F.cross_entropy(student.to(dtype) / temperature, target)


def labelled_cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of class scores with the labels that are known; `log C` when all scores are equal and all known.

    Args:
        scores: `[B, C]`.
        labels: int64 `[B]` in [0, C), -1 where unknown.

    Returns:
        Sum over the labelled images divided by B, in nats: an image without label counts as 0, so that a batch with few
        labelled images weighs little. 0 without any.

    Source: Chen et al. 2020 (SimCLRv2), first term of equation 3, divided as its second one is.
    """
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    return F.cross_entropy(scores, labels, ignore_index=-1, reduction="sum") / len(scores)


def knowledge_distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL divergence of softened class scores, times the squared temperature; 0 when both agree.

    The factor keeps the size of the gradient whatever the temperature.

    Args:
        student: scores `[B, C]`.
        teacher: scores `[B, C]`; no gradient flows into them.
        temperature: divides both; above 0.

    Returns:
        Mean over the B images, in nats times the squared temperature.

    Source: Hinton, Vinyals, Dean 2015.
    """
    dtype = torch.promote_types(student.dtype, torch.float32)
    seen = (student.to(dtype) / temperature).log_softmax(1)
    wanted = (teacher.detach().to(dtype) / temperature).log_softmax(1)
    return temperature**2 * F.kl_div(seen, wanted, reduction="batchmean", log_target=True)


def distillation_of_each(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """`knowledge_distillation` of every image by itself, so that images can be weighed; its mean is that loss.

    Returns:
        `[B]`, in nats times the squared temperature.
    """
    dtype = torch.promote_types(student.dtype, torch.float32)
    seen = (student.to(dtype) / temperature).log_softmax(1)
    wanted = (teacher.detach().to(dtype) / temperature).log_softmax(1)
    return temperature**2 * F.kl_div(seen, wanted, reduction="none", log_target=True).sum(1)
