"""What the service that keeps a core model asks of the learning behind it.

The service knows weights, leases and files; a `Lesson` knows networks and images. Weights cross as plain tensors by
name, so that the service moves them without knowing what they belong to.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from stillhouse.methods.travel import Weights

State = Weights
"""All that ever travels."""


@dataclass(frozen=True)
class Terms:
    """What devices are told before they learn, beside the recipe."""

    largest_change: float = 0.0
    """Norm of what a return changed over that of the clone from which on it is refused; 0 where there is none."""
    questions: Tensor | None = None
    """Images uint8 `[N, 3, S, S]` about which a device may answer instead of sending weights; None takes weights only.
    """


@dataclass(frozen=True)
class Arrival:
    """A clone that came back, or what it said: either `state` or `answers` is there, and never both."""

    user: str
    base_version: int
    """Version of the core that was sent out."""
    staleness: int
    """How many versions the core has gone on since then."""
    state: State
    """The weights that came back; empty where only answers did."""
    base: State
    """The weights that were sent."""
    answers: Tensor | None = None
    """What the clone says about the questions, float32 `[N, C]`, as it came; None where weights came back."""

    def __post_init__(self) -> None:
        assert bool(self.state) != (self.answers is not None), "a clone comes back, or its answers do"


@dataclass(frozen=True)
class Decision:
    """Whether a returned clone may teach."""

    accepted: bool
    reason: str = ""
    """In words; empty where it is accepted."""
    hostile: bool = False
    """Whether no honest device sends such a thing; it counts against the user."""


@dataclass(frozen=True)
class Taught:
    """The core after a lesson."""

    state: State
    scores: Mapping[str, float] = field(default_factory=dict)
    """How good it is now, on held-out images, by name; the first one is the one to keep up."""
    measures: Mapping[str, float] = field(default_factory=dict)
    """What the lesson did, by name: attending, retaining and the like."""


class Lesson(ABC):
    """Turns returned clones into a better core. Must not keep anything between calls that changes an answer."""

    def terms(self) -> Terms:
        """What devices are told; the same after every restart with the same settings."""
        return Terms()

    @abstractmethod
    def start(self) -> Taught:
        """The first core, version 0, and its scores."""

    @abstractmethod
    def examine(self, core: State, arrival: Arrival) -> Decision:
        """Whether this clone may teach this core; cheap checks first, and any input is survived."""

    @abstractmethod
    def teach(self, core: State, arrivals: Sequence[Arrival], version: int) -> Taught:
        """What the core becomes; `core` and `arrivals` stay as they are.

        Args:
            core: weights now.
            arrivals: one or more accepted clones.
            version: of the core that comes out; all randomness follows from it and the lesson's seed.
        """
