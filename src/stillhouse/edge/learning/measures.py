"""What a lesson did: attending to the teacher, and retaining one's own.

Letters: N images, of which those count on which teacher and old core disagree.
Source: Lee, Yoo, Kwak 2020 (arXiv:2010.10338) for the two traits; the definitions are ours.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from torch import Tensor


@dataclass(frozen=True)
class Traits:
    """Shares of images on which teacher and old core disagree; not a number where there are none."""

    attend: float
    """The new core says what the teacher says."""
    retain: float
    """The new core says what the old one said; attend + retain is at most 1."""
    useful_attend: float
    """The new core is right, of images on which the teacher is right and the old core is not."""
    useful_retain: float
    """The new core is right, of images on which the old core is right and the teacher is not."""

    def table(self) -> Mapping[str, float]:
        """By name."""
        return asdict(self)


def traits(before: Tensor, after: Tensor, teacher: Tensor, labels: Tensor) -> Traits:
    """What one lesson did on some images.

    Args:
        before: classes that the core said before, int64 `[N]`.
        after: classes that it says now, int64 `[N]`.
        teacher: classes that the teacher says, int64 `[N]`.
        labels: int64 `[N]`, -1 where unknown.
    """
    differ = teacher != before
    return Traits(
        attend=share(after == teacher, differ),
        retain=share(after == before, differ),
        useful_attend=share(after == labels, differ & (teacher == labels)),
        useful_retain=share(after == labels, differ & (before == labels)),
    )


def share(holds: Tensor, among: Tensor) -> float:
    """Share of `among` (bool `[N]`) for which `holds` (bool `[N]`); not a number where there are none."""
    count = int(among.sum())
    return int((holds & among).sum()) / count if count else math.nan
