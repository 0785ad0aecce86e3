"""What an evaluation found, and its file."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stillhouse.evaluation.alignment import Alignment
from stillhouse.evaluation.correspondence import Correspondence
from stillhouse.evaluation.verdict import Verdict
from stillhouse.health import Health

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Names that go into the file: where images came from and what the encoder is called."""

    train: str = ""
    test: str = ""
    encoder: str = ""
    weights_sha256: str = ""
    """Hash of the encoder's file, so that scores are not taken for those of other weights; empty without a file."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One accuracy."""

    subject: str
    """`encoder`, `untrained` or `pixels`."""
    block: int
    """From 1; 0 for pixels."""
    protocol: str
    """Its name; `last4:knn(...)` where the last four blocks, of which `block` is the last, were joined."""
    accuracy: float
    """Share of right answers on the test images, in [0, 1]."""
    interval: tuple[float, float]
    """95 % interval of the accuracy over the drawing of test images."""
    held_out: float
    """Accuracy on held-out training images; what to choose a block by, since the test is not for choosing."""
    settings: Mapping[str, float | bool]
    """What the protocol chose, or was told."""
    labels: str = ""
    """Which training labels a probe was told, where not all as they are: `1% labels`, `noise 0.4`."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Everything known about one encoder; `results` is empty without labels."""

    sources: Sources
    train_images: int
    test_images: int
    classes: tuple[str, ...]
    block_dims: tuple[int, ...]
    results: tuple[Result, ...]
    health: tuple[Health, ...]
    """Of every block, on test images."""
    alignment_images: int
    alignment: tuple[Alignment, ...]
    """Of every block; empty when it was not measured."""
    protocols: Mapping[str, Mapping[str, Any]]
    """What else was measured, plain values by the name of the protocol."""
    verdict: Verdict
    """What can be said without labels."""
    correspondence: Mapping[str, Correspondence]
    """Of the encoder, and of the untrained one beside it; empty when it was not measured."""
    notes: tuple[str, ...]
    """What a reader has to know: why there is no accuracy, where a choice lay at the edge of its grid."""
    seconds: float

    def of(self, subject: str, protocol: str, labels: str = "") -> tuple[Result, ...]:
        """Results of one subject, first to last block.

        Args:
            subject: `encoder`, `untrained` or `pixels`.
            protocol: beginning of its name, such as `knn`.
            labels: which labels it was told; empty means all as they are.
        """
        asked = (subject, labels)
        return tuple(r for r in self.results if (r.subject, r.labels) == asked and r.protocol.startswith(protocol))

    def best(self, protocol: str = "knn", labels: str = "") -> Result | None:
        """The encoder's result at the block that does best on held-out training images; nothing without labels."""
        found = self.of("encoder", protocol, labels)
        return best_of(found) if found else None

    def to_json(self) -> str:
        """The content of `evaluation.json`; a number that is not finite becomes null."""
        document = {
            "version": VERSION,
            "data": {
                "train": self.sources.train,
                "test": self.sources.test,
                "train_images": self.train_images,
                "test_images": self.test_images,
                "classes": self.classes,
            },
            "encoder": {
                "name": self.sources.encoder,
                "weights_sha256": self.sources.weights_sha256,
                "blocks": len(self.block_dims),
                "block_dims": self.block_dims,
            },
            "results": [dataclasses.asdict(result) for result in self.results],
            "health": [
                {"block": block, **dataclasses.asdict(health), "sentence": health.sentence}
                for block, health in enumerate(self.health, start=1)
            ],
            "alignment": {
                "images": self.alignment_images,
                "blocks": [
                    {"block": block, **dataclasses.asdict(alignment), "ratio": alignment.ratio}
                    for block, alignment in enumerate(self.alignment, start=1)
                ],
            },
            "protocols": self.protocols,
            "verdict": {**dataclasses.asdict(self.verdict), "sentence": self.verdict.sentence},
            "correspondence": {name: dataclasses.asdict(found) for name, found in self.correspondence.items()},
            "notes": self.notes,
            "seconds": self.seconds,
        }
        return json.dumps(_finite(document), indent=1, allow_nan=False) + "\n"


def best_of(results: Sequence[Result]) -> Result:
    """The one that does best on held-out training images, of equals the deepest; of at least one."""
    return max(results, key=lambda result: (_or_least(result.held_out), result.block))


def _or_least(value: float) -> float:
    return -1.0 if math.isnan(value) else value


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
