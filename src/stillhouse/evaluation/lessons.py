"""What a linear probe is told: every label as it is, only a few of them, or some that are wrong.

Letters: N training images.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stillhouse.data.labels import balanced_subset, parse_count, with_wrong_labels
from stillhouse.errors import SettingsError
from stillhouse.evaluation.config import EvaluationConfig


@dataclass(frozen=True)
class Lesson:
    """The training images and labels of one probe."""

    name: str
    """`1% labels` or `noise 0.4`; empty when it is told everything as it is."""
    shown: Tensor
    """Which images it sees, bool `[N]`."""
    labels: Tensor
    """What it is told they are, int64 `[N]`."""

    def of(self, rows: Tensor, device: torch.device) -> "Lesson":
        """The same of only some of the images, int64 `[M]`, on a device."""
        return replace(self, shown=self.shown[rows].to(device), labels=self.labels[rows].to(device))


def lessons(labels: Tensor, num_classes: int, config: EvaluationConfig) -> tuple[Lesson, ...]:
    """All labels first, then few, then wrong ones, as the settings ask.

    Args:
        labels: true labels of the training images, int64 `[N]`.
        num_classes: number of classes.
        config: `few_labels`, `label_noise` and `seed`.

    Raises:
        SettingsError: so few labels that a class has none, or more than there are.
    """
    everything = torch.ones(len(labels), dtype=torch.bool)
    found = [Lesson("", everything, labels)]
    for text in config.few_labels:
        try:
            chosen = balanced_subset(labels, parse_count(text, len(labels), num_classes), config.seed)
        except SettingsError as error:
            raise SettingsError(f"evaluation.few_labels: {text}: {error}") from error
        shown = torch.zeros_like(everything)
        shown[chosen] = True
        found.append(Lesson(f"{text} labels", shown, labels))
    for rate in config.label_noise:
        told = with_wrong_labels(labels, num_classes, rate, config.seed)
        found.append(Lesson(f"noise {rate:g}", everything, told))
    return tuple(found)
