"""What an evaluation found, as the page knows it; accuracies in [0, 1]."""

import math
from dataclasses import dataclass, field
from typing import Any

from stillhouse.report.values import Number


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
class Verdict:
    """How good the encoder is in words; `level` is empty where nobody judged."""

    level: str = ""
    score: Number = math.nan
    sentence: str = ""
    because: tuple[str, ...] = ()
    advice: str = ""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The content of `evaluation.json`; everything is empty where that file is absent.

    `measures` is its object `protocols`: what is no accuracy per block, by name, as it was written.
    """

    data: EvaluatedData = field(default_factory=EvaluatedData)
    encoder: dict[str, Any] = field(default_factory=dict)
    results: tuple[Result, ...] = ()
    alignment: Alignment = field(default_factory=Alignment)
    verdict: Verdict = field(default_factory=Verdict)
    measures: dict[str, Any] = field(default_factory=dict)
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
