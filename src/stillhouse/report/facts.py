"""What the page knows about a run; numbers as they were written, accuracies in [0, 1].

Letters: N images, H W h w rows and columns of an original and of a view, V views.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from stillhouse.report.atlas import Atlas
from stillhouse.report.evaluated import Evaluation
from stillhouse.report.values import Number, Tree


@dataclass(frozen=True, kw_only=True)
class Step:
    """One line of kind `step`: weighted loss terms, rates and seconds since the start."""

    step: int
    loss: Number
    terms: dict[str, Number] = field(default_factory=dict)
    epoch: Number = math.nan
    progress: Number = math.nan
    learning_rate: Number = math.nan
    images_per_second: Number = math.nan
    data_share: Number = math.nan
    seconds: Number = math.nan


@dataclass(frozen=True, kw_only=True)
class Health:
    """One line of kind `health`; `sentence` is the judgement of the training loop, in words."""

    step: int
    spread: Number = math.nan
    effective_rank: Number = math.nan
    dim: int = 0
    sentence: str = ""


@dataclass(frozen=True, kw_only=True)
class KNN:
    """One line of kind `knn`: accuracy of every block, measured while training."""

    step: int
    blocks: tuple[Number, ...]
    epoch: Number = math.nan
    queries: int = 0


@dataclass(frozen=True, kw_only=True)
class Samples:
    """First images as the method sees them.

    `originals` is uint8 `[N, H, W, 3]` and `views` uint8 `[V, N, h, w, 3]`; N is 0 where nothing was kept.
    """

    originals: np.ndarray
    views: np.ndarray


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """Everything that the page shows; what a run directory lacks is empty here.

    Accuracies are here only if they are real: `knn` is empty when the recipe hides labels, and
    `evaluation.results` is empty and the atlas has no labels when the evaluated data had no classes. `atlas` holds one
    or none.
    """

    name: str
    recipe: Tree
    steps: tuple[Step, ...]
    health: tuple[Health, ...]
    knn: tuple[KNN, ...]
    evaluation: Evaluation
    samples: Samples
    atlas: tuple[Atlas, ...]
    quarantine: tuple[str, ...]
    card: Tree
    labels_hidden: bool

    @property
    def has_accuracy(self) -> bool:
        """Whether anything was measured against labels."""
        return bool(self.knn or self.evaluation.results)

    @property
    def blocks(self) -> int:
        """Number of blocks of the encoder, 0 while unknown."""
        tested = [result.block for result in self.evaluation.results if result.subject == "encoder"]
        return max([*tested, *(len(line.blocks) for line in self.knn)], default=0)
