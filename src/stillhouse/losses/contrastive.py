"""Contrastive losses: tell the partner from all others.

Letters: B images in the global batch, M queries, K keys, E width. Rows are normalized here, so any scale may come in;
everything runs in at least float32, whatever autocast says.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

CHUNK_SIZE = 128
"""Rows of logits that a CPU works on at once: a strip should stay in its cache."""
LOWEST_SYMMETRIC_TEMPERATURE = 0.025
"""Below it float32 cannot hold `exp(-2 / temperature)`, the smallest term of a sum that no maximum was taken out of."""


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Normalized temperature-scaled cross-entropy of two views; SimCLR's loss.

    Each of the 2B rows looks for its other view among the 2B - 1 rows that are not itself.
    `log(2B - 1)` when all rows coincide.

    Args:
        first: one view, `[B, E]`.
        second: the other view of the same images in the same order, `[B, E]`.
        temperature: divides the cosines; above 0.

    Returns:
        Mean over the 2B rows, in nats. (The official code returns the sum over both views, twice this.)

    Source: Chen et al. 2020, equation 1.
    """
    rows = _unit(torch.cat([first, second]))
    if temperature >= LOWEST_SYMMETRIC_TEMPERATURE:
        return _SymmetricCrossEntropy.apply(rows, temperature)  # type: ignore[no-any-return]
    own = torch.arange(len(rows), device=rows.device)
    return contrastive_cross_entropy(rows, rows, own.roll(len(first)), temperature, excluded=own)


def info_nce(query: Tensor, key: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding key i for query i among all keys; `log K` when all rows coincide.

    Args:
        query: `[B, E]`.
        key: `[B, E]`, the positives in the same order; whether gradient flows into them is the caller's choice.
        temperature: divides the cosines; above 0.

    Returns:
        Mean over the B queries, in nats.

    Source: van den Oord et al. 2018, equation 4; He et al. 2020, equation 1.
    """
    positive = torch.arange(len(query), device=query.device)
    return contrastive_cross_entropy(_unit(query), _unit(key), positive, temperature)


def cross_view_nce(query: Tensor, key: Tensor, temperature: float) -> Tensor:
    """Find the other view's key, with the own view's key left out; the intermediate term of SD-SimCLR.

    Row i and row i + B are two views of one image. Equal to `nt_xent` when queries and keys are the same rows.

    Args:
        query: embeddings of some layer, both views, `[2B, E]`.
        key: final embeddings of the same rows, `[2B, E]`, normally detached.
        temperature: divides the cosines; above 0.

    Returns:
        Mean over the 2B queries, in nats.

    Source: Jang et al. 2023 (SDSSL), SimCLR form.
    """
    own = torch.arange(len(query), device=query.device)
    return contrastive_cross_entropy(_unit(query), _unit(key), own.roll(len(query) // 2), temperature, excluded=own)


def contrastive_cross_entropy(
    query: Tensor, key: Tensor, positive: Tensor, temperature: float, *, excluded: Tensor | None = None
) -> Tensor:
    """Cross-entropy over `query @ key.T / temperature`, never holding more than a strip of the logits.

    Loss and gradients are made in one pass over strips of queries, so memory grows with K, not with M * K, and no
    strip is computed twice. First derivatives only.

    Args:
        query: `[M, E]`; used as it is, so normalize first for cosines.
        key: `[K, E]`.
        positive: `[M]`, the row of `key` that belongs to each query.
        temperature: above 0.
        excluded: `[M]`, a row of `key` that each query must not see (itself), if any.

    Returns:
        Mean over the M queries, in nats.
    """
    return _StripedCrossEntropy.apply(query, key, positive, temperature, excluded)  # type: ignore[no-any-return]


class _StripedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, positive: Tensor, temperature: float, excluded: Tensor | None
    ) -> Tensor:
        query_needs, key_needs = ctx.needs_input_grad[:2]
        query_gradient = torch.empty_like(query) if query_needs else None
        key_gradient = torch.zeros_like(key) if key_needs else None
        total = query.new_zeros(())
        scale = 1.0 / (temperature * len(query))
        with torch.autocast(query.device.type, enabled=False):
            for strip in _strips(query):
                column = positive[strip, None]
                logits = (query[strip] @ key.T).div_(temperature)
                if excluded is not None:
                    logits.scatter_(1, excluded[strip, None], -torch.inf)
                right, largest = logits.gather(1, column), logits.amax(1, keepdim=True)
                slope = logits.sub_(largest).exp_()
                normalizer = slope.sum(1, keepdim=True)
                total += (normalizer.log() + largest - right).sum()
                if not (query_needs or key_needs):
                    continue
                slope.div_(normalizer)
                slope.scatter_add_(1, column, slope.new_full((1, 1), -1.0).expand(len(slope), 1))
                if query_gradient is not None:
                    torch.mm(slope, key, out=query_gradient[strip])
                if key_gradient is not None:
                    key_gradient.addmm_(slope.T, query[strip])
        gradients = [g.mul_(scale) if g is not None else None for g in (query_gradient, key_gradient)]
        ctx.save_for_backward(*gradients)
        return total / len(query)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        into_query, into_key = ctx.saved_tensors
        return (
            None if into_query is None else into_query * gradient,
            None if into_key is None else into_key * gradient,
            None,
            None,
            None,
        )


class _SymmetricCrossEntropy(torch.autograd.Function):
    """`contrastive_cross_entropy` of unit rows with themselves, each excluded from its own sum.

    The logits are symmetric, so only strips right of the diagonal are made: once for the sums over each row, then again
    for the gradient `sum_j (p_ij + p_ji) row_j`. That is two thirds of the products and half of the exponentials.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, temperature: float) -> Tensor:
        first, second = rows.chunk(2)
        sums = rows.new_zeros(len(rows))
        with torch.autocast(rows.device.type, enabled=False):
            for strip, weights in _upper_strips(rows, temperature):
                sums[strip] += weights.sum(1)
                sums[strip.stop :] += weights[:, len(weights) :].sum(0)
            gradient = _symmetric_gradient(rows, sums, temperature) if ctx.needs_input_grad[0] else None
        ctx.save_for_backward(gradient)
        return sums.log().mean() + (1.0 - (first * second).sum(1)).mean() / temperature

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (into_rows,) = ctx.saved_tensors
        return into_rows * gradient, None


def _symmetric_gradient(rows: Tensor, sums: Tensor, temperature: float) -> Tensor:
    gradient, share = torch.zeros_like(rows), sums.reciprocal()
    for strip, weights in _upper_strips(rows, temperature):
        weights.mul_(share[strip, None] + share[strip.start :])
        gradient[strip].addmm_(weights, rows[strip.start :])
        gradient[strip.stop :].addmm_(weights[:, len(weights) :].T, rows[strip])
    return gradient.sub_(rows.roll(len(rows) // 2, 0), alpha=2.0).div_(temperature * len(rows))


def _upper_strips(rows: Tensor, temperature: float) -> Iterator[tuple[slice, Tensor]]:
    """Strips of `exp((cosine - 1) / temperature)` from the diagonal to the right; the diagonal itself is 0."""
    for strip in _strips(rows):
        weights = (rows[strip] @ rows[strip.start :].T).sub_(1.0).div_(temperature).exp_()
        weights.diagonal().zero_()
        yield strip, weights


def _strips(rows: Tensor) -> Iterator[slice]:
    """Parts of the rows that are worked on together; larger ones on an accelerator, where starting work is dear."""
    size = CHUNK_SIZE if rows.device.type == "cpu" else 16 * CHUNK_SIZE
    for start in range(0, len(rows), size):
        yield slice(start, min(start + size, len(rows)))


def _unit(rows: Tensor) -> Tensor:
    return F.normalize(rows.to(torch.promote_types(rows.dtype, torch.float32)), dim=-1)
