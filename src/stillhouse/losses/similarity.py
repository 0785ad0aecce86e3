"""Losses that compare how a student and its teacher see other images.

Letters: B images, K reference rows, D width. Rows are normalized here, except the references, which a queue keeps as
unit rows; everything runs in at least float32.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from stillhouse.losses.directions import unit


def seed_cross_entropy(
    student: Tensor, teacher: Tensor, queue: Tensor, student_temperature: float, teacher_temperature: float
) -> Tensor:
    """Cross-entropy of the student's similarities to the teacher's, over the queue and the image's own teacher row.

    Every image is compared with K + 1 rows: its own teacher vector, then the queue. `log(K + 1)` when they all
    coincide; InfoNCE with the teacher's vector as the key when `teacher_temperature` goes to 0. A student equal to its
    teacher leaves the teacher's entropy when the temperatures are equal, more when they differ.

    Args:
        student: `[B, D]`.
        teacher: `[B, D]`, of the same views; no gradient flows into it.
        queue: unit rows, `[K, D]`.
        student_temperature: divides the student's cosines; above 0.
        teacher_temperature: divides the teacher's; above 0.

    Returns:
        Mean over the B images, in nats.

    Source: Fang et al. 2021 (SEED), equations 3 and 4.
    """
    student, teacher, queue = unit(student), unit(teacher.detach()), queue.detach()
    with torch.autocast(student.device.type, enabled=False):
        seen = torch.cat([(student * teacher).sum(1, keepdim=True), student @ queue.to(student.dtype).T], dim=1)
        wanted = torch.cat([(teacher * teacher).sum(1, keepdim=True), teacher @ queue.to(teacher.dtype).T], dim=1)
        target = (wanted / teacher_temperature).softmax(1)
        return F.cross_entropy(seen / student_temperature, target)


def similarity_divergence(
    student: Tensor, teacher: Tensor, student_queue: Tensor, teacher_queue: Tensor, temperature: float
) -> Tensor:
    """KL divergence of the student's similarities from the teacher's, each to its own references.

    0 when student and teacher see their references alike. The two widths may differ.

    Args:
        student: `[B, D_s]`.
        teacher: `[B, D_t]`, of the same views; no gradient flows into it.
        student_queue: unit rows `[K, D_s]`; the teacher's own queue when the student was brought to its width.
        teacher_queue: unit rows of the same K images, `[K, D_t]`.
        temperature: divides all cosines; above 0.

    Returns:
        Mean over the B images, in nats.

    Source: Abbasi Koohpayegani et al. 2020 (CompRess), equation 3.
    """
    student, teacher = unit(student), unit(teacher.detach())
    with torch.autocast(student.device.type, enabled=False):
        seen = student @ student_queue.detach().to(student.dtype).T / temperature
        wanted = teacher @ teacher_queue.detach().to(teacher.dtype).T / temperature
        return F.kl_div(seen.log_softmax(1), wanted.log_softmax(1), reduction="batchmean", log_target=True)


def cross_view_divergence(
    student_first: Tensor, student_second: Tensor, target_first: Tensor, target_second: Tensor, temperature: float
) -> Tensor:
    """KL divergence of how the student sees the batch from how its target does: each first view among the second views.

    The image's own second view stays among them. Widths of student and target may differ, as only the B x B
    similarities meet. 0 when both see the batch alike.

    Args:
        student_first: first view, `[B, D_s]`.
        student_second: second view of the same images in the same order, `[B, D_s]`.
        target_first: the target's first view of the same images, `[B, D_t]`; no gradient flows into it.
        target_second: the target's second view, `[B, D_t]`; no gradient flows into it.
        temperature: divides all cosines; above 0.

    Returns:
        Mean over the B images, in nats. (The official code takes the mean over all B x B entries, B times less.)

    Source: Bhat et al. 2021 (DoGo), equations 3 to 5.
    """
    student, others = unit(student_first), unit(student_second)
    target, references = unit(target_first.detach()), unit(target_second.detach())
    with torch.autocast(student.device.type, enabled=False):
        seen = (student @ others.T / temperature).log_softmax(1)
        wanted = (target @ references.T / temperature).log_softmax(1)
        return F.kl_div(seen, wanted, reduction="batchmean", log_target=True)


def cosines_to_others(rows: Tensor) -> Tensor:
    """Cosine of every row to every other row of its batch, its own left out.

    Rotating or scaling all rows changes nothing. 0 everywhere for orthogonal rows.

    Args:
        rows: `[B, D]`, B > 1.

    Returns:
        `[B, B - 1]`, the others in their order.
    """
    rows, count = unit(rows), len(rows)
    with torch.autocast(rows.device.type, enabled=False):
        cosines = rows @ rows.T
    others = ~torch.eye(count, dtype=torch.bool, device=rows.device)
    return cosines[others].view(count, count - 1)


def relational_divergence(
    student: Tensor, teacher: Tensor, student_temperature: float, teacher_temperature: float
) -> Tensor:
    """KL divergence of how the student sees the other images of the batch from how its teacher does.

    0 when both are equal up to a rotation and a scale of either side and the temperatures agree. Widths may differ.

    Args:
        student: `[B, D_s]`, B > 1.
        teacher: `[B, D_t]`, of the same views; no gradient flows into it.
        student_temperature: divides the student's cosines; above 0.
        teacher_temperature: divides the teacher's; above 0.

    Returns:
        Mean over the B images, in nats.

    Source: similarity distillation as in SEED and FLESD, inside the batch and without the image itself.
    """
    seen = (cosines_to_others(student) / student_temperature).log_softmax(1)
    wanted = (cosines_to_others(teacher.detach()) / teacher_temperature).log_softmax(1)
    return F.kl_div(seen, wanted, reduction="batchmean", log_target=True)
