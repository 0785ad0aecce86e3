"""Privacy at the device: what training changed is shortened and blurred before it leaves.

What a visit changed is a vector, all that learns and all batch statistics joined. It is shortened to a length of at
most c, and noise of deviation sigma * c is added to every number. Whatever images a device holds, its vector lies in a
ball of radius c, so two data sets differ by 2c at most: this is the Gaussian mechanism with sensitivity 2c, local to
the device and for all of its images together.

Source: McMahan et al. 2018 (clipping and noise), here at the device; Balle and Wang 2018 and Dong, Roth, Su 2022 (exact
epsilon of the Gaussian mechanism, and of several of them one after the other).
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Gt, Interval
from torch import Tensor, nn

from stillhouse.edge.lesson import State
from stillhouse.errors import SettingsError

LEAST_VARIANCE = 1e-5
"""What a running variance is raised to where noise made it smaller."""
MOST_EPSILON = 1e6
"""Where the search for epsilon ends; such a number promises nothing."""


@dataclass(frozen=True, kw_only=True)
class PrivacyConfig:
    """How much of a visit is told."""

    clip: Annotated[float, Gt(0)]
    """c: largest length of what a visit changed."""
    noise: Annotated[float, Gt(0)]
    """sigma: deviation of the noise in every number, in units of c."""
    delta: Annotated[float, Interval(gt=0, lt=1)] = 1e-5
    """Probability with which epsilon may be exceeded."""


def telling_names(method: nn.Module) -> set[str]:
    """Names of what follows from the images: weights that learn, and running statistics."""
    learning = {name for name, parameter in method.named_parameters() if parameter.requires_grad}
    statistics = {name for name, _ in method.named_buffers() if name.endswith(("running_mean", "running_var"))}
    return learning | statistics


def protect(trained: State, clone: State, telling: Collection[str], config: PrivacyConfig, seed: int) -> State:
    """What may leave the device: the clone, plus what was learnt, shortened and blurred.

    Args:
        trained: weights after the visit.
        clone: weights before it, with the same names and shapes.
        telling: names whose values follow from the images; all others are sent as they came.
        config: how much is told.
        seed: of the noise; from the system's randomness, and used once. Whoever knows it can take the noise away.

    Returns:
        New tensors; running variances stay positive.
    """
    changed = {name: trained[name].double() - clone[name].double() for name in sorted(telling) if name in clone}
    length = math.sqrt(sum(float(value.square().sum()) for value in changed.values()))
    share = min(1.0, config.clip / length) if length else 1.0
    generator = torch.Generator().manual_seed(seed)
    sent = {name: value.clone() for name, value in clone.items()}
    for name, value in changed.items():
        noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        blurred = clone[name].double() + share * value + config.noise * config.clip * noise
        sent[name] = _valid(name, blurred).to(clone[name].dtype)
    return sent


def _valid(name: str, value: Tensor) -> Tensor:
    return value.clamp_min(LEAST_VARIANCE) if name.endswith("running_var") else value


def check_noise(outline: nn.Module, clone: State, config: PrivacyConfig, largest: float) -> None:
    """See, before anything is learnt and told, that noise alone does not get the return refused.

    The core compares the norm of all changes of weights, statistics left out, with that of the clone's weights. Noise
    of deviation sigma c in n weights has the norm sigma c sqrt(n), to a few percent, whatever was learnt.

    Args:
        outline: the method; only names and sizes of what learns are looked at.
        clone: weights that came.
        config: how much is told.
        largest: norm of the change over that of the clone that is taken; 0 where the core does not say.

    Raises:
        SettingsError: it would be refused.
    """
    count = sum(parameter.numel() for parameter in outline.parameters() if parameter.requires_grad)
    weights = [value for name, value in clone.items() if value.is_floating_point() and "running_" not in name]
    size = math.sqrt(sum(float(value.double().square().sum()) for value in weights))
    share = config.noise * config.clip * math.sqrt(count) / size if size else math.inf
    if largest and share > largest:
        raise SettingsError(
            f"--noise: {config.noise:g} times --clip {config.clip:g} in {count:,} weights moves them by {share:.3g} of "
            f"their norm, and the core refuses what moved by more than {largest:g}; at most --clip "
            f"{config.clip * largest / share:.2g} goes with this noise"
        )


def loudness(config: PrivacyConfig) -> float:
    """mu of one visit, sensitivity over deviation: 2 / sigma. Of several it is the root of the sum of squares."""
    return 2.0 / config.noise


def epsilon(mu: float, delta: float) -> float:
    """The smallest epsilon for which a Gaussian mechanism is (epsilon, delta) differentially private.

    Args:
        mu: sensitivity over deviation of the noise, 0 or more.
        delta: in (0, 1).

    Returns:
        The root of `delta(epsilon) = N(mu/2 - epsilon/mu) - exp(epsilon) N(-mu/2 - epsilon/mu)`, rounded up in the last
        digits; 0 for mu 0.

    Raises:
        SettingsError: it is beyond a million.
    """
    if mu == 0 or excess(0.0, mu) <= delta:
        return 0.0
    low, high = 0.0, 1.0
    while excess(high, mu) > delta:
        low, high = high, 2 * high
        if high > MOST_EPSILON:
            raise SettingsError("privacy.noise: so little noise keeps nothing private; raise it, 1 or more is usual")
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle, mu) > delta else (low, middle)
    return high


def excess(epsilon: float, mu: float) -> float:
    """The smallest delta that goes with epsilon, for a Gaussian mechanism of this mu above 0."""
    below = _log_normal(-mu / 2 - epsilon / mu) + epsilon
    return math.exp(_log_normal(mu / 2 - epsilon / mu)) - math.exp(min(0.0, below))


def _log_normal(x: float) -> float:
    """Logarithm of the normal distribution function; far below 0 by its continued fraction, where `erfc` is 0."""
    if x > -30.0:
        return math.log(math.erfc(-x / math.sqrt(2.0)) / 2)
    fraction = -x
    for step in range(20, 0, -1):
        fraction = -x + step / fraction
    return -x * x / 2 - math.log(math.sqrt(2 * math.pi) * fraction)
