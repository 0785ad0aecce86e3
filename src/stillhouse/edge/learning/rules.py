"""What a student is to say, and how far it is from saying it: the rules of a lesson, as functions of scores.

Scores are those of classes or, without labels, the similarities to other images; a softmax makes shares of them.

Letters: N images, C scores of an image, K clones.
Sources: attending and retaining from Lee, Yoo, Kwak 2020 (arXiv:2010.10338: `cloned` is their first version, `retain`
the buffer of their third); everything else is ours.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

ROUNDS = 20
HALVINGS = 20


def cloned(teachers: Sequence[Tensor]) -> Tensor:
    """The mean of what the clones say: scores `[N, C]` from K of `[N, C]`. One clone is repeated as it is."""
    return torch.stack(list(teachers)).mean(0)


def mean_shares(teachers: Sequence[Tensor], temperature: float) -> Tensor:
    """Scores whose softmax at `temperature` is the mean of the clones' own; those of one clone, up to a constant.

    Args:
        teachers: K of scores `[N, C]`.
        temperature: divides scores before the softmax; above 0.

    Source: ensembling similarities as Shi et al. 2021 (FLESD).
    """
    shares = torch.stack([(scores / temperature).log_softmax(1) for scores in teachers])
    return temperature * (shares.logsumexp(0) - math.log(len(shares)))


def common(change: Tensor, labels: Tensor) -> Tensor:
    """The part of a change that is alike for all images: the mean over classes of the means over their images, `[C]`.

    A user's own mixture of classes shows here: training raises the scores of classes that it holds, whatever the image.
    Taken off a change, what is left is what was learnt about images.

    Args:
        change: what a clone says now minus what it said when it was sent out, `[N, C]`.
        labels: int64 `[N]` in [0, C).
    """
    present, place = torch.unique(labels, return_inverse=True)
    sums = change.new_zeros(len(present), change.shape[1]).index_add_(0, place, change)
    return (sums / torch.bincount(place)[:, None]).mean(0)


def residual(core: Tensor, changes: Sequence[Tensor], strengths: Tensor) -> Tensor:
    """What the core says, and on top of it what the users' training changed.

    Args:
        core: scores of the core before the lesson, `[N, C]`.
        changes: what each clone says now minus what it said when it was sent out, K of `[N, C]`.
        strengths: factor of each, `[K]`.

    Returns:
        `[N, C]`; the core's own scores where nothing changed, whatever the core learnt meanwhile.
    """
    return core + (strengths.to(core)[:, None, None] * torch.stack(list(changes))).sum(0)


def fit_strengths(core: Tensor, changes: Sequence[Tensor], labels: Tensor, limit: float = 1.0) -> Tensor:
    """The strengths with which changes help most: those of least cross-entropy of `residual` on held-out images.

    Core and changes are divided by the temperature that suits the core best (`calibration`) before, or a change would
    be welcome that only makes an overconfident core less sure. What is left is a convex problem in K numbers, solved by
    one number at a time with Newton's step, halved where it does not go down. A change that does not help gets 0, so
    this is a gate as well.

    Args:
        core: scores of classes, `[N, C]`.
        changes: K of `[N, C]`.
        labels: int64 `[N]`.
        limit: largest strength of one change.

    Returns:
        `[K]` float64 in [0, limit].
    """
    factor = calibration(core, labels)
    return _fit(factor * core.double(), [factor * rows.double() for rows in changes], labels, limit)


def calibration(scores: Tensor, labels: Tensor) -> float:
    """The factor on scores `[N, C]` that gives the least cross-entropy with labels int64 `[N]`; from 0 to 100.

    0 where scores say nothing about the labels. Below 1 for a network that is surer than it is right.

    Source: Guo et al. 2017, temperature scaling; this is the inverse of the temperature.
    """
    rows = scores.double()
    return _fit(torch.zeros_like(rows), [rows], labels, 100.0).item()


def calibrated_loss(scores: Tensor, labels: Tensor) -> float:
    """Cross-entropy of scores `[N, C]` with labels int64 `[N]` at the temperature that suits them best, in nats.

    At most log C, whatever the scores; tells what a network knows, apart from how sure it is.
    """
    return F.cross_entropy(calibration(scores, labels) * scores.double(), labels).item()


def _fit(scores: Tensor, moves: Sequence[Tensor], labels: Tensor, limit: float) -> Tensor:
    """Strengths `[K]` in [0, limit] of least cross-entropy of `scores + sum_k strength_k move_k`, all float64."""
    strengths = torch.zeros(len(moves), dtype=torch.float64, device=scores.device)
    loss = F.cross_entropy(scores, labels)
    for _ in range(ROUNDS):
        before = strengths.clone()
        for place, move in enumerate(moves):
            shares = scores.softmax(1)
            mean = (shares * move).sum(1)
            slope = (mean - move.gather(1, labels[:, None]).squeeze(1)).mean()
            bend = ((shares * move.square()).sum(1) - mean.square()).mean()
            step = -slope / bend.clamp(min=1e-12)
            for _ in range(HALVINGS):
                moved = (strengths[place] + step).clamp(0.0, limit)
                tried = scores + (moved - strengths[place]) * move
                if (found := F.cross_entropy(tried, labels)) <= loss:
                    scores, loss = tried, found
                    strengths[place] = moved
                    break
                step = step / 2
        if (strengths - before).abs().max() < 1e-9:
            break
    return strengths


def everywhere(target: Tensor, core: Tensor, labels: Tensor) -> Tensor:
    """Every image counts as 1, `[N]`."""
    return target.new_ones(len(target))


def where_better(target: Tensor, core: Tensor, labels: Tensor) -> Tensor:
    """1 for images whose class the target holds for likelier than the core does, else 0, `[N]`."""
    rows = labels[:, None]
    return (target.softmax(1).gather(1, rows) > core.softmax(1).gather(1, rows)).squeeze(1).to(target)


def where_right(target: Tensor, core: Tensor, labels: Tensor) -> Tensor:
    """1 for images that the target puts into their class, else 0, `[N]`."""
    return (target.argmax(1) == labels).to(target)


def by_confidence(target: Tensor, core: Tensor, labels: Tensor) -> Tensor:
    """The share that the target gives to the image's class, in [0, 1], `[N]`."""
    return target.softmax(1).gather(1, labels[:, None]).squeeze(1)


Listening = Callable[[Tensor, Tensor, Tensor], Tensor]
LISTENING: dict[str, Listening] = {
    "everywhere": everywhere,
    "where_better": where_better,
    "where_right": where_right,
    "by_confidence": by_confidence,
}
"""Weights of the images in the attend term, by the name that settings give them; arguments are the target's and the
core's scores `[N, C]` and labels `[N]`."""
