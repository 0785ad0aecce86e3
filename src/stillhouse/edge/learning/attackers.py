"""What a user may send or learn who means no good: for experiments and tests.

Attacks on weights take the clone as it was sent out, what an honest training made of it, and a seed. Of attacks on what
is learnt, here is what images and labels become. Letters: B images, S side in pixels, C classes.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from stillhouse.edge.lesson import State

Attack = Callable[[State, State, int], State]
"""From the clone sent out, the honest result and a seed to what is returned."""

FACTOR = 5.0
PATCH = 3


def flip_labels(labels: Tensor, num_classes: int) -> Tensor:
    """Every image gets the class after its own: int64 of any shape in [0, C)."""
    return (labels + 1) % num_classes


def random_labels(labels: Tensor, num_classes: int, seed: int) -> Tensor:
    """Every image gets a class drawn evenly: int64 of any shape in [0, C)."""
    return torch.randint(0, num_classes, labels.shape, generator=torch.Generator().manual_seed(seed))


def stamp(images: Tensor) -> Tensor:
    """The same images `[B, 3, S, S]` in [0, 1] with a white patch of 3 x 3 pixels in the lower right corner."""
    stamped = images.clone()
    stamped[:, :, -PATCH:, -PATCH:] = 1.0
    return stamped


def backdoor_success(answers: Tensor, labels: Tensor) -> float:
    """Share of stamped images of other classes that are taken for class 0; not a number without any.

    Args:
        answers: classes given to stamped images, int64 `[B]`.
        labels: their true classes, int64 `[B]`.
    """
    others = labels != 0
    return float((answers[others] == 0).double().mean())


def random_weights(clone: State, honest: State, seed: int) -> State:
    """A network that never learnt: entries of every tensor in random order, so their mean and spread stay plausible."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: value.flatten()[torch.randperm(value.numel(), generator=generator)].view(value.shape)
        for name, value in clone.items()
    }


def noise(clone: State, honest: State, seed: int, scale: float = 0.1) -> State:
    """The clone and normal noise of `scale` times each tensor's own deviation; statistics of norms are left alone."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, value in clone.items():
        draw = torch.randn(value.shape, generator=generator)
        made[name] = value + scale * _deviation(value) * draw.to(value.dtype) if _learns(name, value) else value.clone()
    return made


def sign_flip(clone: State, honest: State, seed: int, factor: float = FACTOR) -> State:
    """`clone - k (honest - clone)`: what was learnt, unlearnt k times over."""
    return _along(clone, honest, -factor)


def boost(clone: State, honest: State, seed: int, factor: float = FACTOR) -> State:
    """`clone + k (honest - clone)`: a small step made to outweigh everybody else's.

    Source: model replacement by Bagdasaryan et al. 2020.
    """
    return _along(clone, honest, factor)


def free_rider(clone: State, honest: State, seed: int) -> State:
    """The untouched clone."""
    return {name: value.clone() for name, value in clone.items()}


def disguised_free_rider(clone: State, honest: State, seed: int) -> State:
    """The untouched clone under a breath of noise."""
    return noise(clone, honest, seed, scale=1e-4)


def not_a_number(clone: State, honest: State, seed: int) -> State:
    """One entry is not a number."""
    return _with_entry(honest, torch.nan)


def infinite(clone: State, honest: State, seed: int) -> State:
    """One entry is infinite."""
    return _with_entry(honest, torch.inf)


def misshapen(clone: State, honest: State, seed: int) -> State:
    """One tensor has another shape."""
    name = _first_weight(honest)
    return {**honest, name: honest[name].flatten()[:-1]}


def mistyped(clone: State, honest: State, seed: int) -> State:
    """One tensor has another number format."""
    name = _first_weight(honest)
    return {**honest, name: honest[name].double() if honest[name].dtype != torch.float64 else honest[name].float()}


def missing(clone: State, honest: State, seed: int) -> State:
    """One tensor is not there."""
    gone = _first_weight(honest)
    return {name: value for name, value in honest.items() if name != gone}


def extra(clone: State, honest: State, seed: int) -> State:
    """A tensor that nobody asked for."""
    return {**honest, "extra": torch.zeros(1)}


ATTACKS: dict[str, Attack] = {
    "random_weights": random_weights,
    "noise": noise,
    "sign_flip": sign_flip,
    "boost": boost,
    "free_rider": free_rider,
    "disguised_free_rider": disguised_free_rider,
    "not_a_number": not_a_number,
    "infinite": infinite,
    "misshapen": misshapen,
    "mistyped": mistyped,
    "missing": missing,
    "extra": extra,
}
"""Attacks on weights, by name."""


def _along(clone: State, honest: State, factor: float) -> State:
    """From the clone `factor` times the honest step; variances stay above 0, or the lie would show at once."""
    made = {}
    for name, value in clone.items():
        moved = value + factor * (honest[name] - value) if value.is_floating_point() else honest[name].clone()
        made[name] = moved.clamp(min=0.0) if name.endswith("running_var") else moved
    return made


def _learns(name: str, value: Tensor) -> bool:
    return value.is_floating_point() and not name.endswith(("running_mean", "running_var"))


def _deviation(value: Tensor) -> Tensor:
    return value.std() if value.numel() > 1 else value.abs().mean()


def _first_weight(state: State) -> str:
    return next(name for name, value in state.items() if _learns(name, value) and value.ndim > 1)


def _with_entry(state: State, entry: float) -> State:
    name = _first_weight(state)
    broken = state[name].clone()
    broken.view(-1)[0] = entry
    return {**state, name: broken}
