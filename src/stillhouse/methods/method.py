"""The promise of a method: views in, named loss terms out."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from stillhouse.data.stream import Batch
from stillhouse.data.views import ViewPlan
from stillhouse.networks.classifier import Classifier
from stillhouse.networks.encoder import Encoder


class Method(nn.Module, ABC):
    """Turns views of images into loss terms, without labels unless it is made with them.

    A concrete method is final. All it learns or remembers is a parameter or a buffer, so `state_dict()` is enough to
    resume it. Any training loop can drive it:

        terms = method(batch, progress)
        sum(terms.values()).backward()
        optimizer.step()
        method.after_step(progress)
    """

    views: ViewPlan

    @property
    @abstractmethod
    def encoder(self) -> Encoder:
        """The network to keep, evaluate and export."""

    @property
    def peer(self) -> Encoder | None:
        """The second network to keep, where two learn together."""
        return None

    @property
    def projector(self) -> nn.Sequential | None:
        """The head on the kept encoder, where its first layers are worth keeping for classes: an `mlp`."""
        return None

    @property
    def classifier(self) -> Classifier | None:
        """The kept encoder with class scores on it, where classes are learnt."""
        return None

    @property
    def rows(self) -> Tensor | None:
        """Positions of the only images it learns from, int64; None for all."""
        return None

    @abstractmethod
    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Name each weighted loss term; training minimizes their sum.

        Args:
            batch: the views.
            progress: share of training done, in [0, 1].
        """

    def after_step(self, progress: float) -> None:
        """Update what does not learn by gradient; called once after every optimizer step, with the same progress."""
