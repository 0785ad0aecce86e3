"""Optimizers: which parameters decay, and LARS, which torch lacks."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stillhouse.networks.classifier import Classifier

OptimizerName = Literal["adamw", "sgd", "lars"]


def make_optimizer(
    name: OptimizerName, module: nn.Module, *, weight_decay: float, momentum: float, decay_all: bool
) -> torch.optim.Optimizer:
    """An optimizer over everything that learns; the learning rate is set before each step.

    Args:
        name: `adamw` (betas 0.9 and 0.999), `sgd` or `lars`.
        module: only its parameters that require gradient are taken.
        weight_decay: strength of decay.
        momentum: of `sgd` and `lars`.
        decay_all: whether biases and norms decay too; LARS never decays or adapts them, nor a classifier's last layer.
    """
    groups = decay_groups(module, weight_decay, decay_all=decay_all)
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=0.0, fused=True)
    if name == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=momentum, fused=True)
    outputs = [part.output.weight for part in module.modules() if isinstance(part, Classifier)]
    return LARS(_set_apart(groups, outputs), momentum=momentum)


def decay_groups(module: nn.Module, weight_decay: float, *, decay_all: bool = False) -> list[dict[str, Any]]:
    """Every parameter that requires gradient, once: those that decay, then those that do not (biases, norms)."""
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    decays = [decay_all or parameter.ndim > 1 for parameter in learning]
    groups = [
        {"params": [p for p, decay in zip(learning, decays, strict=True) if decay], "weight_decay": weight_decay},
        {"params": [p for p, decay in zip(learning, decays, strict=True) if not decay], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _set_apart(groups: list[dict[str, Any]], weights: list[Tensor]) -> list[dict[str, Any]]:
    """The same parameters, some of them in a last group that neither decays nor adapts."""
    chosen = {id(weight) for weight in weights}
    rest = [{**group, "params": [p for p in group["params"] if id(p) not in chosen]} for group in groups]
    apart = {"params": weights, "weight_decay": 0.0, "adapt": False}
    return [group for group in (*rest, apart) if group["params"]]


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = value


def set_weight_decay(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set the decay of every group that decays."""
    for group in optimizer.param_groups:
        group["weight_decay"] = value if group["weight_decay"] else 0.0


@torch.no_grad()
def clip_each(parameters: Iterable[Tensor], limit: float) -> None:
    """Shorten the gradient of every single tensor to a norm of at most `limit`, in place."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    factors = [(limit / (norm + 1e-6)).clamp(max=1.0) for norm in torch._foreach_norm(gradients)]
    torch._foreach_mul_(gradients, factors)


@torch.no_grad()
def pull(parameters: Sequence[Tensor], anchors: Sequence[Tensor], strength: float) -> None:
    """Add the gradient of `strength / 2 * |parameters - anchors|^2`, in place, where there is a gradient.

    Args:
        parameters: tensors that learn.
        anchors: where each of them began.
        strength: rho of FedProx, 0 or more.
    """
    learning = [(p, anchor) for p, anchor in zip(parameters, anchors, strict=True) if p.grad is not None]
    if learning:
        weights, origins = zip(*learning, strict=True)
        strayed = torch._foreach_sub(weights, origins)
        torch._foreach_add_([weight.grad for weight in weights], strayed, alpha=strength)


class LARS(torch.optim.Optimizer):
    """Momentum SGD whose step is scaled, tensor by tensor, to a share of the weight's own norm.

    For a weight p with two or more dimensions: `g = gradient + weight_decay * p`, `q = trust * |p| / |g|` (1 if either
    norm is 0), `velocity = momentum * velocity + q * g`, `p = p - lr * velocity`. Others, and groups with `adapt` off:
    no decay and q = 1.
    All tensors are updated together and nothing waits for the device.

    Source: You, Gitman, Ginsburg 2017, in the form of SimCLR, BYOL and MoCo v3.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 0.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 1e-3,
        adapt: bool = True,
    ) -> None:
        defaults = {
            "lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust, "adapt": adapt
        }  # fmt: skip
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step for every parameter that has a gradient; closures are not supported."""
        assert closure is None
        for group in self.param_groups:
            learning = [p for p in group["params"] if p.grad is not None]
            for adapted in (True, False):
                chosen = [p for p in learning if (group["adapt"] and p.ndim > 1) == adapted]
                if chosen:
                    self._update(chosen, group, adapted=adapted)

    def _update(self, weights: list[Tensor], group: dict[str, Any], *, adapted: bool) -> None:
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        velocities = [self._velocity(weight) for weight in weights]
        torch._foreach_mul_(velocities, group["momentum"])
        if adapted:
            gradients = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
            sizes, slopes = torch._foreach_norm(weights), torch._foreach_norm(gradients)
            size, slope = torch.stack(sizes), torch.stack(slopes)
            scale = torch.where((size > 0) & (slope > 0), group["trust"] * size / slope, 1.0)
            torch._foreach_mul_(gradients, list(scale.unbind()))
        torch._foreach_add_(velocities, gradients)
        torch._foreach_add_(weights, velocities, alpha=-group["lr"])

    def _velocity(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if "velocity" not in state:
            state["velocity"] = torch.zeros_like(weight)
        velocity: Tensor = state["velocity"]
        return velocity
