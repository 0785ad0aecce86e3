"""Whether a returned clone may teach: cheap checks first, images held out last; whatever comes is survived.

Letters: N images held out, C classes, D width.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn import functional as F

from stillhouse.edge.learning.rules import calibration, common, fit_strengths
from stillhouse.edge.lesson import Decision, State
from stillhouse.edge.structure import misfit
from stillhouse.evaluation.alignment import Alignment, align
from stillhouse.health import effective_rank

ACCEPTED = Decision(True)


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """Settings of the gate; every check can be put out of action."""

    largest_change: Annotated[float, Gt(0)] = 2.0
    """Largest norm of all changes over the norm of the clone as it was sent out."""
    useful: bool = True
    """Whether what was changed has to help on images held out, by `least_gain`."""
    least_gain: Annotated[float, Ge(0)] = 1e-4
    """Least fall of the cross-entropy on images held out, in nats, when as much of the change is taken as is best."""
    margin: Annotated[float, Ge(0)] = 1.0
    """By how much the clone's accuracy may lie below the core's; 0.08 where users hold all classes alike, 1 for any."""
    class_gain: Annotated[float, Ge(0)] = 0.05
    """A clone below the margin passes all the same if it recognizes any class so much better than the core."""
    rank_share: Annotated[float, Ge(0)] = 0.5
    """Without labels: least effective rank of the clone's vectors, over the core's."""
    drift: Annotated[float, Ge(0)] = 0.2
    """Without labels: largest change of alignment and uniformity, over the core's."""


def check_structure(core: State, returned: object) -> Decision:
    """Names, shapes, number formats, finite values, variances from 0 up, counts in range; hostile where one is wrong.

    Args:
        core: weights of the right kind.
        returned: anything.
    """
    if not isinstance(returned, Mapping) or not all(isinstance(name, str) for name in returned):
        return _hostile("weights", f"{type(returned).__name__} instead of tensors by name")
    if odd := sorted(core.keys() ^ returned.keys()):
        return _hostile(odd[0][:200], "missing" if odd[0] in core else "unknown")
    for name, wanted in core.items():
        if problem := misfit(name, returned[name], wanted):
            return _hostile(name, problem)
    return ACCEPTED


def relative_change(base: State, returned: State) -> float:
    """Norm of all changes of what learns over the norm of what was sent out; 0 for an untouched clone.

    Statistics and counts are left out. Infinite where weights were all 0 and are not any more, or the norm overflows.
    """
    names = [name for name, value in base.items() if value.is_floating_point() and "running_" not in name]
    moved = _norm(returned[name].double() - base[name].double() for name in names)
    size = _norm(base[name].double() for name in names)
    return moved / size if size else (math.inf if moved else 0.0)


def _norm(tensors: Iterable[Tensor]) -> float:
    return math.sqrt(sum(float(tensor.square().sum()) for tensor in tensors))


def check_change(base: State, returned: State, config: GateConfig) -> Decision:
    """Whether weights moved no farther than training moves them."""
    moved = relative_change(base, returned)
    if moved <= config.largest_change:
        return ACCEPTED
    return Decision(False, f"weights: changed by {moved:.3g} of their norm; at most {config.largest_change:g} is taken")


def check_scores(core: Tensor, clone: Tensor, teacher: Tensor, labels: Tensor, config: GateConfig) -> Decision:
    """Whether a clone that tells classes is worth hearing, by images held out.

    Args:
        core: class scores of the core, `[N, C]`.
        clone: of the clone as it was sent out, `[N, C]`.
        teacher: of the clone as it came back, `[N, C]`.
        labels: int64 `[N]`.
        config: what is asked.
    """
    if not bool(teacher.isfinite().all()) or not math.isfinite(F.cross_entropy(teacher.double(), labels).item()):
        return Decision(False, "held-out images: the clone's scores are not finite", hostile=True)
    own, other = recalls(core, labels), recalls(teacher, labels)
    lost = accuracy(core, labels) - accuracy(teacher, labels)
    if lost > config.margin and not bool((other - own >= config.class_gain).any()):
        return Decision(False, f"held-out images: {lost:.1%} fewer are right than with the core")
    if config.useful:
        gain = useful_gain(core, clone, teacher, labels)
        if gain < config.least_gain:
            return Decision(
                False, f"held-out images: what was changed does not help (cross-entropy falls by {gain:.2g})"
            )
    return ACCEPTED


def useful_gain(core: Tensor, clone: Tensor, teacher: Tensor, labels: Tensor) -> float:
    """By how much the calibrated core's cross-entropy falls with as much as is best of what a user changed; at least 0.

    In nats; 0 for an untouched clone. The part of the change that is alike for all images is left out, so that a user's
    own mixture of classes speaks neither for nor against it. Arguments as in `check_scores`.
    """
    change = (teacher - clone).double()
    change = change - common(change, labels)
    (strength,) = fit_strengths(core, [change], labels)
    factor = calibration(core, labels)
    before, after = (F.cross_entropy(factor * (core.double() + part * change), labels) for part in (0.0, strength))
    return max(0.0, (before - after).item())


def check_vectors(core: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], config: GateConfig) -> Decision:
    """Whether a clone without classes still tells images apart about as the core does.

    Args:
        core: vectors `[N, D]` of two views of the images held out.
        teacher: those of the clone that came back.
        config: what is asked.
    """
    if not all(bool(rows.isfinite().all()) for rows in teacher):
        return Decision(False, "held-out images: the clone's vectors are not finite", hostile=True)
    rank, own_rank = (effective_rank(pair[0].double()).item() for pair in (teacher, core))
    if not rank >= config.rank_share * own_rank:
        return Decision(
            False, f"held-out images: vectors use {rank:.1f} directions, and those of the core {own_rank:.1f}"
        )
    now, before = align(*teacher), align(*core)
    for name, value, own in _drifts(now, before):
        if not abs(value - own) <= config.drift * abs(own):
            return Decision(False, f"held-out images: {name} is {value:.3g}, and the core's {own:.3g}")
    return ACCEPTED


def _drifts(now: Alignment, before: Alignment) -> Iterable[tuple[str, float, float]]:
    yield "alignment", now.positive, before.positive
    yield "uniformity", now.uniformity, before.uniformity


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """Share of images `[N]` whose highest score `[N, C]` is that of their class."""
    return (scores.argmax(1) == labels).double().mean().item()


def recalls(scores: Tensor, labels: Tensor) -> Tensor:
    """Accuracy of every class, float64 `[C]`; not a number for a class without images."""
    right = (scores.argmax(1) == labels).double()
    sums = torch.zeros(scores.shape[1], dtype=torch.float64, device=scores.device).index_add_(0, labels, right)
    return sums / torch.bincount(labels, minlength=scores.shape[1])


def _hostile(where: str, found: str) -> Decision:
    return Decision(False, f"{where}: {found}; send back the weights of the clone", hostile=True)
