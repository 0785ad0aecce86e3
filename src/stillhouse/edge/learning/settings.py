"""Settings of what a core learns from its clones; the defaults are chosen by `benchmarks/edge_rules.py`."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval

from stillhouse.edge.learning.gate import GateConfig
from stillhouse.edge.learning.weights import Decay
from stillhouse.training.optimizers import OptimizerName

RuleName = Literal["distil", "rehearse", "fedasync", "fedbuff", "fedavg", "feddf"]


@dataclass(frozen=True, kw_only=True)
class DistillingConfig:
    """Settings of `distiller.Distiller`; the defaults are the rule that does not forget."""

    target: Literal["residual", "clone"] = "residual"
    """What is attended to: what the core says plus what the user's training changed, or what the clone says."""
    centred: bool = True
    """Whether the part of a change that is alike for all images, a user's own mixture of classes, is left out."""
    strengths: Literal["fitted", "equal"] = "fitted"
    """How much of each change is taken: as much as helps on images held out, or the same of each, less of stale ones.
    Without labels it is the latter."""
    student: Literal["merged", "core", "snapshot", "clone", "scratch"] = "merged"
    """What the student is before the lesson: the core with the clones' changes in its weights, each with its strength;
    the core; the clone as it was sent out; the clone as it came back; new weights."""
    attend: Annotated[float, Interval(ge=0, le=1)] = 0.5
    """Lambda, weight of attending to a fresh clone; the method's own terms weigh the rest of 1."""
    decay: Decay = "polynomial"
    """How lambda falls with staleness."""
    retain: Annotated[float, Ge(0)] = 0.0
    """Beta, weight of retaining what the core said before the lesson."""
    retain_more: bool = False
    """Whether beta grows with staleness, to twice its value at most."""
    listen: Literal["everywhere", "where_better", "where_right", "by_confidence"] = "where_better"
    """Which of the images the core attends on, where classes are known."""
    compare: Literal["auto", "classes", "relations", "anchors", "directions"] = "auto"
    """What is compared; `auto` is class scores where the core tells classes, else relations."""
    every_depth: bool = False
    """Whether relations and directions are compared after every block."""
    temperature: Annotated[float, Gt(0)] = 4.0
    """Of class scores."""
    relation_temperature: Annotated[float, Gt(0)] = 0.1
    """Of the student's similarities."""
    target_temperature: Annotated[float, Gt(0)] = 0.1
    """Of the similarities that it is to have."""
    anchors: Annotated[int, Ge(1)] = 4096
    """Images whose vectors are anchors; all of fewer."""
    epochs: Annotated[float, Ge(0)] = 3.0
    """Passes over the server's images in one lesson; a fraction is allowed, 0 leaves the student as it begins."""
    batch_size: Annotated[int, Ge(2)] = 128
    optimizer: OptimizerName = "sgd"
    learning_rate: Annotated[float, Gt(0)] = 0.02
    """Of the first step; falls to 0 along half a cosine."""
    momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Ge(0)] = 5e-4
    norms: Literal["batch", "still"] = "batch"
    """Whether batch normalization follows the batches and is recomputed afterwards, or stays as it is."""


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """What of a lesson is kept."""

    shares: tuple[Annotated[float, Interval(gt=0, le=1)], ...] = (1.0, 0.75, 0.5, 0.25)
    """Points between the core before the lesson (0) and after it (1) that are tried; empty keeps the lesson unseen."""
    margin: Annotated[float, Ge(0)] = 0.01
    """By how much accuracy on images held out may fall at a point that is kept for what it knows; without labels, the
    effective rank over the width. Of one lesson: what many lose together, `leases.allowed_fall` bounds."""


@dataclass(frozen=True, kw_only=True)
class AnswersConfig:
    """What devices may give that send no weights; how it is learnt from is read of `DistillingConfig`, too."""

    images: Annotated[int, Ge(0)] = 0
    """The server's images that are set apart as questions, about as many of each class; 0 asks nothing. They are
    neither learnt from with their labels nor held out, so that the core has not learnt them by heart."""
    attend: Annotated[float, Interval(gt=0, le=1)] = 0.7
    """Lambda, weight of attending to answers; the method's own terms weigh the rest of 1."""
    decay: Decay = "constant"
    """How lambda falls with staleness."""
    concentration: Annotated[float, Gt(0)] = 10.0
    """How far what is said about one image may have changed, over how far on average."""


@dataclass(frozen=True, kw_only=True)
class EdgeConfig:
    """Settings of what a core learns from its clones."""

    rule: RuleName = "distil"
    """Distillation, or what to compare it with: the server's images only, or merging of weights."""
    held_out: Annotated[float, Interval(gt=0, lt=1)] = 0.1
    """Share of the server's images that decisions are made by and that are never learnt from."""
    distilling: DistillingConfig = field(default_factory=DistillingConfig)
    """Read by `distil` and, for length and learning rate, by `rehearse` and `feddf`."""
    answers: AnswersConfig = field(default_factory=AnswersConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    trial: TrialConfig = field(default_factory=TrialConfig)
