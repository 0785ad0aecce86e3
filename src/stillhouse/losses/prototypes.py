"""Losses over prototypes: agree with a teacher on how much of each prototype a view shows.

Letters: B images, K prototypes, V views of the student, T views of the teacher.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def self_distillation(
    students: Sequence[Tensor],
    teachers: Sequence[Tensor],
    center: Tensor,
    student_temperature: float,
    teacher_temperature: float,
) -> Tensor:
    """Cross-entropy of every student view to every teacher view of another kind, DINO's loss.

    `log K` when all student scores are equal; the teacher's entropy when student and teacher agree. As the target does
    not depend on the student's view, each teacher view meets the sum of the other views' log-probabilities at once.

    Args:
        students: scores of V views, `[B, K]` each; the first T are the views that the teacher saw.
        teachers: scores of T views, `[B, K]` each; no gradient flows into them.
        center: subtracted from the teacher's scores, `[K]`.
        student_temperature: divides the student's scores; above 0.
        teacher_temperature: divides the teacher's; above 0, smaller to sharpen.

    Returns:
        Mean over the T (V - 1) pairs and the B images, in nats.

    Source: Caron et al. 2021 (DINO), equations 2 to 4.
    """
    dtype = torch.promote_types(students[0].dtype, torch.float32)
    seen = [(scores.to(dtype) / student_temperature).log_softmax(1) for scores in students]
    together = torch.stack(seen).sum(0)
    terms = []
    for view, scores in enumerate(teachers):
        target = ((scores.detach().to(dtype) - center.to(dtype)) / teacher_temperature).softmax(1)
        terms.append(-(target * (together - seen[view])).sum(1).mean())
    return torch.stack(terms).mean() / (len(seen) - 1)
