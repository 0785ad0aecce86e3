"""Linear probe by SGD: several learning rates trained in one pass over the same batches.

Letters: M classifiers, N rows, D width, C classes, B rows per batch.
Source: offline probe of the CIFAR protocols (momentum 0.9, no decay, 100 epochs, batch 512); one pass for all as DINOv2
(Oquab et al. 2023) trains them.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from stillhouse.evaluation.logistic import Linear
from stillhouse.schedules import cosine

MOMENTUM, EPOCHS, BATCH_SIZE = 0.9, 100, 512
START_DEVIATION = 0.01


def fit_sgd(
    rows: Tensor,
    labels: Tensor,
    num_classes: int,
    learning_rates: tuple[float, ...],
    seed: int,
    *,
    epochs: int = EPOCHS,
) -> tuple[Linear, ...]:
    """One classifier per learning rate, each exactly what it would be if trained alone.

    Cross-entropy, momentum 0.9, no decay, cosine to 0 over all steps; weights start at N(0, 0.01^2), the
    same for all, biases at 0. A rate that is too high ends in numbers that are not finite.

    Args:
        rows: `[N, D]`.
        labels: int64 `[N]` in [0, C).
        num_classes: C.
        learning_rates: M of them, for this batch size as they stand.
        seed: of the start and of the order of the rows.
        epochs: passes over the rows.
    """
    generator = torch.Generator().manual_seed(seed)
    start = START_DEVIATION * torch.randn(num_classes, rows.shape[1], generator=generator)
    weights = [start.to(rows, copy=True) for _ in learning_rates]
    biases = [rows.new_zeros(num_classes) for _ in learning_rates]
    velocities = [torch.zeros_like(tensor) for tensor in (*weights, *biases)]
    batch_size = min(BATCH_SIZE, len(rows))
    per_epoch = len(rows) // batch_size
    for step in range(epochs * per_epoch):
        place = step % per_epoch
        if place == 0:
            order = torch.randperm(len(rows), generator=generator).to(rows.device)
        chosen = order[place * batch_size : (place + 1) * batch_size]
        slopes = _slopes(rows[chosen], labels[chosen], weights, biases)
        torch._foreach_mul_(velocities, MOMENTUM)
        torch._foreach_add_(velocities, slopes)
        share = cosine(1.0, 0.0)(step / (epochs * per_epoch))
        rates = [-share * rate for rate in learning_rates] * 2
        torch._foreach_add_([*weights, *biases], torch._foreach_mul(velocities, rates))
    return tuple(Linear(weight, bias) for weight, bias in zip(weights, biases, strict=True))


def _slopes(rows: Tensor, labels: Tensor, weights: list[Tensor], biases: list[Tensor]) -> list[Tensor]:
    """Gradient of the mean cross-entropy of each classifier alone: weights first, then biases."""
    target = F.one_hot(labels, len(biases[0])).to(rows)
    errors = [
        (F.softmax(F.linear(rows, weight, bias), dim=1) - target) / len(rows)
        for weight, bias in zip(weights, biases, strict=True)
    ]
    return [error.mT @ rows for error in errors] + [error.sum(dim=0) for error in errors]
