"""Contrastive losses: tell the partner from all others.

Letters: B images in the global batch, M queries, K keys, E width. Rows are normalized here, so any scale may come in;
everything runs in at least float32, whatever autocast says.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from stillhouse.losses.directions import unit
from stillhouse.losses.strips import strips


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
    rows = unit(torch.cat([first, second]))
    own = torch.arange(len(rows), device=rows.device)
    return contrastive_cross_entropy(rows, rows, own.roll(len(first)), temperature, excluded=own)


def nt_xent_with_memory(first: Tensor, second: Tensor, memory: Tensor, temperature: float) -> Tensor:
    """`nt_xent` in which every row is told from remembered rows as well; `log(2B - 1 + K)` when all coincide.

    Args:
        first: one view, `[B, E]`.
        second: the other view of the same images in the same order, `[B, E]`.
        memory: further negatives, `[K, E]`; no gradient flows into them.
        temperature: divides the cosines; above 0.

    Returns:
        Mean over the 2B rows, in nats.

    Source: Chen et al. 2020 (SimCLRv2), section 2, in words; that memory enters the denominators only is our reading.
    """
    rows = unit(torch.cat([first, second]))
    own = torch.arange(len(rows), device=rows.device)
    keys = torch.cat([rows, unit(memory.detach()).to(rows.dtype)])
    return contrastive_cross_entropy(rows, keys, own.roll(len(first)), temperature, excluded=own)


def info_nce(query: Tensor, key: Tensor, temperature: float, *, start: int = 0) -> Tensor:
    """Cross-entropy of finding its own key for every query among all keys; `log K` when all rows coincide.

    Args:
        query: `[B, E]`.
        key: `[K, E]`; whether gradient flows into them is the caller's choice.
        temperature: divides the cosines; above 0.
        start: the key that belongs to the first query; the others follow in order.

    Returns:
        Mean over the B queries, in nats.

    Source: van den Oord et al. 2018, equation 4; He et al. 2020, equation 1.
    """
    positive = torch.arange(start, start + len(query), device=query.device)
    return contrastive_cross_entropy(unit(query), unit(key), positive, temperature)


def queue_nce(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of telling its own key from the rows of a queue; `log(K + 1)` when all rows coincide.

    The other keys of the batch are not looked at.

    Args:
        query: `[B, E]`.
        key: `[B, E]`, the right row for each query; no gradient flows into it.
        queue: unit rows, `[K, E]`; no gradient flows into it.
        temperature: divides the cosines; above 0.

    Returns:
        Mean over the B queries, in nats.

    Source: He et al. 2020 (MoCo), equation 1.
    """
    query, key = unit(query), unit(key.detach())
    with torch.autocast(query.device.type, enabled=False):
        others = query @ queue.detach().to(query.dtype).T
        logits = torch.cat([(query * key).sum(1, keepdim=True), others], dim=1) / temperature
        return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.int64, device=query.device))


def cross_view_nce(query: Tensor, key: Tensor, temperature: float, *, start: int = 0) -> Tensor:
    """Find the other view's key, with the own view's key left out; the intermediate term of SD-SimCLR.

    In both, the second half are other views of the first half's images. Equal to `nt_xent` when queries and keys are
    the same rows.

    Args:
        query: embeddings of some layer, both views, `[2B, E]`.
        key: final embeddings of both views of at least these images, `[2K, E]`, normally detached.
        temperature: divides the cosines; above 0.
        start: the image among the keys that the first query shows; the others follow in order.

    Returns:
        Mean over the 2B queries, in nats.

    Source: Jang et al. 2023 (SDSSL), SimCLR form.
    """
    image = torch.arange(start, start + len(query) // 2, device=query.device)
    first, second = image, image + len(key) // 2
    own, other = torch.cat([first, second]), torch.cat([second, first])
    return contrastive_cross_entropy(unit(query), unit(key), other, temperature, excluded=own)


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
            for strip in strips(query):
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
