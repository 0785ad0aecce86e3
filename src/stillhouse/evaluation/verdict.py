"""A verdict without labels: is an encoder any good, by what signs, and what might help.

Letters: N images.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from stillhouse.health import Health

Level = Literal["healthy", "weak", "collapsed", "unknown"]

UNTRAINED, PIXELS = "the untrained network", "raw pixels"
"""Names of baselines."""
SURE = 2.0
"""Standard errors that a difference must exceed."""
ADVICE: Mapping[str, str] = {
    "narrow": "try a lower temperature or learning rate, a larger batch, or more prototypes",
    "alike": "try a lower learning rate, a slower teacher (momentum nearer to 1), or another method",
    "lost": "training has taken away what an untrained network sees: try a lower learning rate, and views that differ "
    "more in crop and colour",
    "little": "try more epochs or images, and views that differ more in crop and colour",
}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How good, in words and as a number that ranks encoders."""

    level: Level
    score: float
    """Mean recognition of the last block, 1 at best and 0 by chance; comparable for as many images only."""
    images: int
    baselines: Mapping[str, float]
    """Scores of what an encoder must beat, by name."""
    because: tuple[str, ...]
    """Its reasons, each a sentence without a stop."""
    advice: str
    """What to try; empty where nothing is amiss."""

    @property
    def sentence(self) -> str:
        """All of it in one."""
        told = f"{self.level}, because {'; '.join(self.because)}" if self.because else self.level
        return f"{told}; {self.advice}" if self.advice else told


def judge(health: Health, recognised: Tensor, baselines: Mapping[str, Tensor]) -> Verdict:
    """The verdict on an encoder's vectors.

    Collapsed: vectors are alike, or differ along hardly any direction. Weak: directions are few, or an image is known
    again no better than by chance or by a baseline; better means by twice the standard error of the differences between
    images. Unknown: fewer than two images, or none of whose views were compared.

    Args:
        health: of the vectors.
        recognised: `recognition` of them, `[N]`.
        baselines: `recognition` of the same views by raw pixels, an untrained network or others, `[N]` each, by name.
    """
    means = {name: scores.mean().item() for name, scores in baselines.items()}
    score = recognised.mean().item()
    if health.level == "unknown" or len(recognised) < 2 or not math.isfinite(score):
        return Verdict(
            level="unknown", score=score, images=len(recognised), baselines=means,
            because=("there are no two images whose views were compared",), advice="",
        )  # fmt: skip
    unbeaten = [name for name, scores in baselines.items() if not _surely(recognised - scores)]
    by_chance = not _surely(recognised)
    level: Level = "collapsed" if health.level == "collapsed" else "healthy"
    if level == "healthy" and (health.level == "weak" or unbeaten or by_chance):
        level = "weak"
    lost = UNTRAINED in baselines and _surely(baselines[UNTRAINED] - recognised)
    return Verdict(
        level=level,
        score=score,
        images=len(recognised),
        baselines=means,
        because=(_seen(score, means, unbeaten, by_chance=by_chance), health.sentence.partition(": ")[2]),
        advice="" if level == "healthy" else ADVICE[_trouble(health, lost=lost)],
    )


def _surely(differences: Tensor) -> bool:
    """Whether the mean of `[N]` is above zero by more than chance."""
    error = differences.double().std() / len(differences) ** 0.5
    return bool(differences.double().mean() > SURE * error)


def _trouble(health: Health, *, lost: bool) -> str:
    if health.level in {"weak", "collapsed"}:
        return "narrow" if "few directions" in health.sentence else "alike"
    return "lost" if lost else "little"


def _seen(score: float, means: Mapping[str, float], unbeaten: list[str], *, by_chance: bool) -> str:
    if by_chance:
        return f"an image is not known again in another view of it ({score:.2f}, 0 is chance)"
    beside = ", ".join(f"{name} {mean:.2f}" for name, mean in means.items())
    stands = f", no better than {' and '.join(unbeaten)}" if unbeaten else ""
    return f"an image is known again in another view of it by {score:.2f}{f' ({beside})' * bool(beside)}{stands}"
