"""Region matching: every region of a student's view agrees with the teacher's region that looks most like it.

Letters: B images, K prototypes, V views of the student, T_v regions of view v, C width of the features.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from stillhouse.losses.directions import unit


class Regions(NamedTuple):
    """What is known of the regions of one view."""

    features: Tensor
    """The encoder's vectors, `[B, T_v, C]`; used to match, without gradient."""
    scores: Tensor
    """Of the prototypes, `[B, T_v, K]`."""


def region_matching(
    students: Sequence[Regions],
    teachers: Sequence[Regions],
    center: Tensor,
    student_temperature: float,
    teacher_temperature: float,
) -> Tensor:
    """Cross-entropy of every student region to the best matching region of every other teacher view, EsViT's.

    Views may have different numbers of regions. `log K` when all student scores are equal. A target that adds up to 1
    meets scores z as `logsumexp(z) - target . z`, so that products of all pairs of regions are taken and the matched
    ones picked: no teacher row of width K is ever copied.

    Args:
        students: V views; the first of them are the views that the teacher saw.
        teachers: the views of the teacher; no gradient flows into them.
        center: subtracted from the teacher's scores, `[K]`.
        student_temperature: divides the student's scores; above 0.
        teacher_temperature: divides the teacher's; above 0, smaller to sharpen.

    Returns:
        Mean over pairs of views, in each over the B images and the student view's regions, in nats.

    Source: Li et al. 2022 (EsViT), equation 2, with the teacher as the target, as in the official code.
    """
    dtype = torch.promote_types(students[0].scores.dtype, torch.float32)
    terms = []
    with torch.autocast(center.device.type, enabled=False):
        shares = [_softened(view.scores.detach(), center, teacher_temperature) for view in teachers]
        for seen, student in enumerate(students):
            scores = student.scores.to(dtype) / student_temperature
            spread = scores.logsumexp(2).mean()
            for view, (teacher, target) in enumerate(zip(teachers, shares, strict=True)):
                if view != seen:
                    best = match(student.features, teacher.features)
                    agreement = (scores @ target.mT).gather(2, best.unsqueeze(2))
                    terms.append(spread - agreement.mean())
    return torch.stack(terms).mean()


@torch.no_grad()
def match(student: Tensor, teacher: Tensor) -> Tensor:
    """For each student region the teacher region of highest cosine, in at least float32; of equal ones the first.

    Args:
        student: features `[B, T_s, C]`.
        teacher: features `[B, T_t, C]`.

    Returns:
        Int64 `[B, T_s]` in [0, T_t).
    """
    with torch.autocast(student.device.type, enabled=False):
        return (unit(student) @ unit(teacher).mT).argmax(2)


def _softened(scores: Tensor, center: Tensor, temperature: float) -> Tensor:
    dtype = torch.promote_types(scores.dtype, torch.float32)
    return ((scores.to(dtype) - center.to(dtype)) / temperature).softmax(2)
