"""Whether answers may teach: what a clone said about the questions, where its weights stayed away.

Images held out cannot be asked: whoever is shown them could learn them. So usefulness is told by the labels of the
questions themselves, each half of them judged with a strength that was fitted on the other half.

Letters: N questions, C scores of an image or width of a vector.
"""

import math

from torch import Tensor
from torch.nn import functional as F

from stillhouse.edge.learning.gate import ACCEPTED, GateConfig
from stillhouse.edge.learning.rules import calibration, common, fit_strengths
from stillhouse.edge.learning.settings import AnswersConfig
from stillhouse.edge.lesson import Decision
from stillhouse.evaluation.alignment import uniformity
from stillhouse.health import effective_rank

LARGEST = 1e6
"""Of any number in an answer."""


def check_answers(answers: Tensor, clone: Tensor, config: AnswersConfig, *, scores: bool = True) -> Decision:
    """Shape, number format, finite and bounded values, and no image about which far more changed than about the rest.

    Args:
        answers: anything.
        clone: what the clone said, float32 `[N, C]`.
        config: what is asked.
        scores: whether they are scores of classes; else vectors.
    """
    if answers.dtype != clone.dtype or answers.ndim != 2:
        return Decision(
            False, f"answers: {answers.dtype} of {answers.ndim} dimensions; send one row each", hostile=True
        )
    if answers.shape != clone.shape:  # a device that was asked before the questions changed is honest
        return Decision(False, f"answers: {list(answers.shape)}, and {list(clone.shape)} belong to these questions")
    if not bool(answers.isfinite().all()):
        return Decision(False, "answers: hold values that are not finite", hostile=True)
    if answers.abs().max() > LARGEST:
        return Decision(False, f"answers: hold {answers.abs().max():.3g}; no network says so", hostile=True)
    share = concentration(answers, clone, scores=scores)
    if share <= config.concentration:
        return ACCEPTED
    return Decision(
        False,
        f"answers: what is said about one image changed {share:.3g} times as far as what is said about the others; "
        f"at most {config.concentration:g} is taken",
    )


def concentration(answers: Tensor, clone: Tensor, *, scores: bool = True) -> float:
    """How far what is said about one image changed, at most, over how far on average of the others.

    0 where nothing changed, infinite where nothing else did. Scores are taken without their mean over an image, which
    means nothing. Arguments as in `check_answers`.
    """
    change = answers.double() - clone.double()
    lengths = (change - change.mean(1, keepdim=True) if scores else change).norm(dim=1)
    most = lengths.max().item()
    others = (lengths.sum().item() - most) / max(1, len(lengths) - 1)
    return most / others if others > 0 else math.inf if most else 0.0


def check_useful(core: Tensor, clone: Tensor, answers: Tensor, labels: Tensor, config: GateConfig) -> Decision:
    """Whether class scores help: see `crossed_gain`; arguments as there."""
    gain = crossed_gain(core, clone, answers, labels)
    if not config.useful or gain >= config.least_gain:
        return ACCEPTED
    return Decision(False, f"answers: what was changed does not help (cross-entropy falls by {gain:.2g})")


def crossed_gain(core: Tensor, clone: Tensor, answers: Tensor, labels: Tensor) -> float:
    """By how much the calibrated core's cross-entropy falls with what a user changed, in nats; may lie below 0.

    Strength, common part and temperature are fitted on every other image of each class, and judged on the rest; then
    the other way round, and the mean is taken. Chance on few images does not pass for help.

    Args:
        core: class scores of the core, `[N, C]`.
        clone: of the clone as it was sent out, `[N, C]`.
        answers: of the clone after its training, `[N, C]`.
        labels: int64 `[N]`; two images or more.
    """
    core, change = core.double(), answers.double() - clone.double()
    order, gains = labels.argsort(stable=True), []
    halves = order[0::2], order[1::2]
    for fitted, judged in (halves, halves[::-1]):
        offset = common(change[fitted], labels[fitted])
        (strength,) = fit_strengths(core[fitted], [change[fitted] - offset], labels[fitted])
        factor = calibration(core[fitted], labels[fitted])
        before, after = (
            F.cross_entropy(factor * (core[judged] + part * (change[judged] - offset)), labels[judged]).item()
            for part in (0.0, strength)
        )
        gains.append(before - after)
    return sum(gains) / 2


def check_spread(core: Tensor, answers: Tensor, config: GateConfig) -> Decision:
    """Whether vectors still tell images apart about as the core's do: effective rank and uniformity.

    Args:
        core: vectors of the core, `[N, D]`.
        answers: of the clone after its training, `[N, D]`.
        config: what is asked.
    """
    rank, own_rank = (effective_rank(rows.double()).item() for rows in (answers, core))
    if not rank >= config.rank_share * own_rank:
        return Decision(False, f"answers: vectors use {rank:.1f} directions, and those of the core {own_rank:.1f}")
    spread, own = (uniformity(rows.double()).item() for rows in (answers, core))
    if not abs(spread - own) <= config.drift * abs(own):
        return Decision(False, f"answers: uniformity is {spread:.3g}, and the core's {own:.3g}")
    return ACCEPTED
