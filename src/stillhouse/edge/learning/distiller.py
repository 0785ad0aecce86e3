"""Clones teach the core: merged as far as they help, then distilled, and kept as far as images held out agree.

Source: Lee, Yoo, Kwak 2020, "Asynchronous Edge Learning using Cloned Knowledge Distillation" and its third version,
"Edge Bias in Federated Learning and its Solution by Buffered Knowledge Distillation" (arXiv:2010.10338), for
distillation between clones, attending, retaining and the buffer. No equation or setting of theirs is known to us:
losses and defaults are ours, chosen by `benchmarks/edge_rules.py`.

Letters: K clones.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from stillhouse.edge.learning.classroom import Classroom, seeded
from stillhouse.edge.learning.drill import drill
from stillhouse.edge.learning.hearing import Hearing
from stillhouse.edge.learning.merging import moved_by
from stillhouse.edge.learning.panel import Panel
from stillhouse.edge.learning.settings import DistillingConfig
from stillhouse.edge.learning.weights import DECAYS, growth
from stillhouse.edge.lesson import Arrival, State
from stillhouse.methods.method import Method
from stillhouse.methods.travel import pack

__all__ = ["Distiller", "DistillingConfig"]


@dataclass(frozen=True)
class Distiller:
    """A rule: what the core becomes when clones teach it."""

    classroom: Classroom
    config: DistillingConfig = field(default_factory=DistillingConfig)
    hearing: Hearing | None = None
    """What is known already of networks, and who else asks them; without one, each lesson asks for itself."""

    def __call__(self, core: State, arrivals: Sequence[Arrival], version: int) -> tuple[State, Mapping[str, float]]:
        """The taught core and what was done, by name; neither `core` nor `arrivals` are changed.

        Where none of the changes helps, the core stays as it is.

        Args:
            core: weights now.
            arrivals: one or more clones.
            version: of the core that comes out; all randomness follows from it and the classroom's seed.

        Raises:
            TrainingError: the loss was not finite.
        """
        config, room, seed = self.config, self.classroom, self.classroom.seed_of(version)
        with seeded(seed, room.device):
            panel = Panel(self.hearing or Hearing(room), config, core, arrivals)
            strengths = panel.strengths
            if not strengths.any():
                return core, {"strength": 0.0}
            student = self._student(core, arrivals, strengths, seed)
            staleness = sum(arrival.staleness for arrival in arrivals) / len(arrivals)
            attend = config.attend * DECAYS[config.decay](staleness)
            retain = config.retain * (growth(staleness) if config.retain_more else 1.0)
            drill(student, room, config, panel.loss(student, attend, retain), seed)
        return pack(student), {"attend_weight": attend, "strength": float(strengths.sum())}

    def _student(self, core: State, arrivals: Sequence[Arrival], strengths: Tensor, seed: int) -> Method:
        """Whoever is taught, in training mode."""
        kind, first = self.config.student, arrivals[0]
        if kind == "scratch":
            return self.classroom.fresh(seed)
        begin: dict[str, Callable[[], State]] = {
            "merged": lambda: moved_by(core, arrivals, strengths.tolist()),
            "core": lambda: core,
            "snapshot": lambda: first.base,
            "clone": lambda: first.state,
        }
        return self.classroom.method(begin[kind]())
