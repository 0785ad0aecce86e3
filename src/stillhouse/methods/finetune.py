"""Fine-tuning: the encoder and the first layers of its projection head learn classes from few labelled images.

Source: Chen, Kornblith, Swersky, Norouzi, Hinton, "Big Self-Supervised Models are Strong Semi-Supervised Learners"
(SimCLRv2), 2020, section 2.
"""

from dataclasses import dataclass, replace
from typing import Annotated

from annotated_types import Ge
from torch import Tensor, nn

from stillhouse.data.labels import Labels
from stillhouse.data.stream import Batch
from stillhouse.data.views import CROP_AND_FLIP, FOLLOW_IMAGES, ViewPlan
from stillhouse.losses.logits import labelled_cross_entropy
from stillhouse.methods.method import Method
from stillhouse.networks.classifier import Classifier
from stillhouse.networks.encoder import Encoder


@dataclass(frozen=True, kw_only=True)
class FineTuneConfig:
    """Settings of `FineTune`."""

    head_layer: Annotated[int, Ge(0)] = 1
    """Layers of the projection head that are kept; 1 for few labels, 0 for all of them or without a start."""
    train_head: bool = True
    """Whether the kept layers learn, too."""
    zero_output: bool = True
    """Whether the linear layer to the class scores starts at zero."""
    views: ViewPlan = FOLLOW_IMAGES
    """Empty is one view, only cropped and flipped."""

    def fit(self, encoder: Encoder) -> "FineTuneConfig":
        """The same settings with what follows from the encoder written out."""
        return replace(self, views=self.views.or_else(CROP_AND_FLIP).of(1))


class FineTune(Method):
    """Cross-entropy of labelled images; no other image is drawn, and batch normalization learns along.

    Args:
        config: settings.
        encoder: with the weights to begin from.
        head: the kept `head_layer` layers, empty for none.
        labels: of all images.

    Raises:
        SettingsError: fewer than two classes have a label.
    """

    labels: Tensor

    def __init__(self, config: FineTuneConfig, encoder: Encoder, head: nn.Sequential, labels: Labels) -> None:
        super().__init__()
        self.config = config = config.fit(encoder)
        self.views = config.views
        labels.check_for("simclrv2-finetune")
        assert len([layer for layer in head if isinstance(layer, nn.Linear)]) == config.head_layer
        head.requires_grad_(config.train_head)
        self.student = Classifier(encoder, head, labels.classes, zero_output=config.zero_output)
        self.register_buffer("labels", labels.of, persistent=False)
        self._rows = (labels.of >= 0).nonzero().squeeze(1).cpu()

    @property
    def encoder(self) -> Encoder:
        return self.student.encoder

    @property
    def classifier(self) -> Classifier:
        return self.student

    @property
    def rows(self) -> Tensor:
        return self._rows

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        (view,) = batch.views
        return {"classes": labelled_cross_entropy(self.student(view), self.labels[batch.index])}
