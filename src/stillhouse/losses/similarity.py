"""Losses that compare how a student and its teacher see other images.

Letters: B images, K reference rows, D width. Rows are normalized here, except the references, which a queue keeps as
unit rows; everything runs in at least float32.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from stillhouse.losses.directions import unit
from stillhouse.losses.strips import strips

FAINTEST = -60.0
"""Logarithm of the smallest share of a teacher's attention: below, numbers get so small that processors crawl."""


def seed_cross_entropy(
    student: Tensor, teacher: Tensor, queue: Tensor, student_temperature: float, teacher_temperature: float
) -> Tensor:
    """Cross-entropy of the student's similarities to the teacher's, over the queue and the image's own teacher row.

    Every image is compared with K + 1 rows: its own teacher vector, then the queue. Loss and gradient are made in one
    pass over strips of images, and no strip is computed twice; first derivatives only. `log(K + 1)` when all rows
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
    student, teacher = unit(student), unit(teacher.detach())
    return _StripedSoftCrossEntropy.apply(  # type: ignore[no-any-return]
        student, teacher.to(student.dtype), queue.detach().to(student.dtype), student_temperature, teacher_temperature
    )


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


class _StripedSoftCrossEntropy(torch.autograd.Function):
    """Of unit rows; the gradient flows into the student alone."""

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        teacher: Tensor,
        queue: Tensor,
        student_temperature: float,
        teacher_temperature: float,
    ) -> Tensor:
        gradient = torch.empty_like(student) if ctx.needs_input_grad[0] else None
        total = student.new_zeros(())
        with torch.autocast(student.device.type, enabled=False):
            for strip in strips(student):
                own, other = student[strip], teacher[strip]
                # What the teacher wants, the image's own vector first: no cosine is larger than that one's.
                largest = (other * other).sum(1, keepdim=True) / teacher_temperature
                wanted = ((other / teacher_temperature) @ queue.T).sub_(largest).clamp_(min=FAINTEST).exp_()
                normalizer = wanted.sum(1, keepdim=True) + 1.0
                wanted_own, wanted = 1.0 / normalizer, wanted.div_(normalizer)

                seen_own = (own * other).sum(1, keepdim=True) / student_temperature
                seen = (own / student_temperature) @ queue.T
                agreement = _row_products(wanted, seen) + wanted_own * seen_own
                largest = torch.maximum(seen.amax(1, keepdim=True), seen_own)
                seen = seen.sub_(largest).exp_()
                seen_own = (seen_own - largest).exp_()
                normalizer = seen.sum(1, keepdim=True) + seen_own
                total += (normalizer.log() + largest - agreement).sum()
                if gradient is not None:
                    slope = seen.div_(normalizer).sub_(wanted)
                    torch.mm(slope, queue, out=gradient[strip])
                    gradient[strip] += (seen_own / normalizer - wanted_own) * other
        if gradient is not None:
            gradient.div_(student_temperature * len(student))
        ctx.save_for_backward(gradient)
        return total / len(student)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return None if gradient is None else gradient * upstream, None, None, None, None


def _row_products(left: Tensor, right: Tensor) -> Tensor:
    """Inner product of each row of one `[B, K]` with that of the other, `[B, 1]`."""
    return torch.bmm(left.unsqueeze(1), right.unsqueeze(2)).squeeze(2)
