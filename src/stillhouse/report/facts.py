"""What the page knows about a run; numbers as they were written, accuracies in [0, 1].

Letters: N images, H W h w rows and columns of an original and of a view, V views.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator

Tree = Mapping[str, Any]  # a table of TOML or an object of JSON


def _number(value: object) -> object:
    return math.nan if value is None else value


Number = Annotated[float, BeforeValidator(_number)]  # a JSON null is a number that was not finite


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
class Result:
    """One accuracy with its 95 % interval (`()` where none was written); block 0 stands for raw pixels.

    `held_out` is the accuracy on images that are neither fitted nor tested: what a block is chosen by. `labels` says
    which labels a probe was told, such as `1% labels` or `noise 0.4`; it is empty for all as they are.
    """

    subject: str
    block: int
    protocol: str
    accuracy: Number
    interval: tuple[()] | tuple[Number, Number] = ()
    held_out: Number = math.nan
    settings: dict[str, Any] = field(default_factory=dict)
    labels: str = ""

    @property
    def has_interval(self) -> bool:
        """Whether an interval was written that is finite."""
        return bool(self.interval) and all(map(math.isfinite, self.interval))

    @property
    def bounds(self) -> tuple[float, float]:
        """Ends of the interval; both are the accuracy itself without one."""
        return self.interval if self.interval and self.has_interval else (self.accuracy, self.accuracy)


@dataclass(frozen=True, kw_only=True)
class BlockAlignment:
    """Mean squared distance, in [0, 4], of two views of one image and of two images, after one block."""

    block: int
    positive: Number
    negative: Number
    ratio: Number = math.nan


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """Alignment of every block, measured on `images` images."""

    images: int = 0
    blocks: tuple[BlockAlignment, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EvaluatedData:
    """Where the evaluated images came from; `classes` is empty without labels."""

    train: str = ""
    test: str = ""
    train_images: int = 0
    test_images: int = 0
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The content of `evaluation.json`; everything is empty where that file is absent."""

    data: EvaluatedData = field(default_factory=EvaluatedData)
    encoder: dict[str, Any] = field(default_factory=dict)
    results: tuple[Result, ...] = ()
    alignment: Alignment = field(default_factory=Alignment)
    notes: tuple[str, ...] = ()
    seconds: Number = math.nan

    @property
    def protocols(self) -> tuple[str, ...]:
        """Names of the protocols that are told all labels as they are, in the order of their first result."""
        return tuple(dict.fromkeys(result.protocol for result in self.results if not result.labels))

    @property
    def lessons(self) -> dict[str, str]:
        """Protocols that are told fewer labels or wrong ones, each with the words for what it is told."""
        return {result.protocol: result.labels for result in self.results if result.labels}

    def of(self, protocol: str, subject: str) -> tuple[Result, ...]:
        """Finite results of one protocol and subject (`encoder`, `untrained`, `pixels`), one per block, by block."""
        chosen = {
            result.block: result
            for result in self.results
            if result.protocol == protocol and result.subject == subject and math.isfinite(result.accuracy)
        }
        return tuple(chosen[block] for block in sorted(chosen))

    def best(self, protocol: str, subject: str) -> tuple[Result, ...]:
        """The result, none or one, of the block that held-out images choose; test images where nothing was held out."""
        found = self.of(protocol, subject)
        held = [result for result in found if math.isfinite(result.held_out)]
        ranked = sorted(held, key=lambda result: result.held_out) or sorted(found, key=lambda result: result.accuracy)
        return tuple(ranked[-1:])


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
    `evaluation.results` is empty when the evaluated data had no classes.
    """

    name: str
    recipe: Tree
    steps: tuple[Step, ...]
    health: tuple[Health, ...]
    knn: tuple[KNN, ...]
    evaluation: Evaluation
    samples: Samples
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
