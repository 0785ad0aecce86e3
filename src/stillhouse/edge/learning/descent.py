"""A short training without a run directory: the loop of a lesson, and of a user that is played here."""

from collections.abc import Callable, Iterable
from itertools import islice

import torch
from torch import Tensor, nn

from stillhouse.data.stream import Batch
from stillhouse.errors import TrainingError
from stillhouse.methods.method import Method
from stillhouse.schedules import Schedule
from stillhouse.training.optimizers import set_learning_rate
from stillhouse.training.precision import Precision, autocast

Loss = Callable[[Batch, float], Tensor]
"""From a batch and the progress to what is minimized."""


def own_loss(method: Method) -> Loss:
    """The sum of a method's own terms."""
    return lambda batch, progress: torch.stack(list(method(batch, progress).values())).sum()


def in_precision(loss: Loss, precision: Precision, device: torch.device) -> Loss:
    """The same loss, its forward pass in this number format."""

    def value(batch: Batch, progress: float) -> Tensor:
        with autocast(precision, device):
            return loss(batch, progress)

    return value


def descend(
    method: Method,
    batches: Iterable[Batch],
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    rate: Schedule,
    steps: int,
) -> None:
    """Take optimizer steps, one for every batch, and let the method follow each.

    Args:
        method: what learns; `after_step` is called.
        batches: one for every step, at least.
        loss: what is minimized.
        optimizer: new, or its momentum would carry one lesson into the next.
        rate: learning rate from progress.
        steps: how many.

    Raises:
        TrainingError: the loss was not finite; the method is then half taught.
    """
    for step, batch in enumerate(islice(batches, steps)):
        progress = step / steps
        set_learning_rate(optimizer, rate(progress))
        value = loss(batch, progress)
        if not torch.isfinite(value):
            raise TrainingError(
                f"edge: the loss was not finite at step {step + 1} of {steps} ({value.item():g}); "
                "lower the learning rate of the lesson"
            )
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        method.after_step(progress)


@torch.no_grad()
def recompute_norms(method: Method, batches: Iterable[Batch], steps: int) -> None:
    """Give every batch normalization that learns the plain mean of the statistics of so many batches.

    Needed where weights moved without them: after merging, or where statistics of two networks were mixed.

    Args:
        method: changed in place; a network without batch normalization is left alone, and so is one that is asked only.
        batches: at least `steps` of them.
        steps: how many are looked at; 0 changes nothing.
    """
    norms = [part for part in method.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    norms = [norm for norm in norms if norm.track_running_stats]
    if not norms or not steps:
        return
    modes, momenta = [(part, part.training) for part in method.modules()], [norm.momentum for norm in norms]
    method.train()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over what comes
    try:
        for batch in islice(batches, steps):
            method(batch, 0.0)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for part, mode in modes:
            part.training = mode


def hold_norms(method: Method) -> None:
    """Batch normalization uses the statistics it has, and keeps them."""
    for part in method.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()
