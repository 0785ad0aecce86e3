"""What leaves a device under privacy, and how much it tells."""

import math
import random

import pytest
import torch
from torch import Tensor

from stillhouse.edge.device.privacy import PrivacyConfig, epsilon, excess, loudness, protect, telling_names
from stillhouse.errors import SettingsError
from tests.methods.conftest import build_method


def states(seed: int = 0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    clone = {
        "a": torch.randn(40, 50, generator=generator),
        "norm.running_var": torch.full((30,), 1e-3),
        "steps": torch.tensor(7),
    }
    trained = {"a": clone["a"] + 3.0, "norm.running_var": torch.ones(30), "steps": torch.tensor(19)}
    return trained, clone


def length(trained: dict[str, Tensor], clone: dict[str, Tensor]) -> float:
    return math.sqrt(sum(float((trained[name] - clone[name]).square().sum()) for name in ("a", "norm.running_var")))


@pytest.mark.parametrize("clip", [0.5, 1e6])
def test_with_hardly_any_noise_what_was_learnt_is_shortened_and_keeps_its_direction(clip: float) -> None:
    trained, clone = states()
    sent = protect(trained, clone, {"a", "norm.running_var"}, PrivacyConfig(clip=clip, noise=1e-12), 3)
    share = min(1.0, clip / length(trained, clone))
    for name in ("a", "norm.running_var"):
        torch.testing.assert_close(sent[name], clone[name] + share * (trained[name] - clone[name]))
    assert sent["steps"] == 7


def test_noise_has_the_deviation_that_is_promised_and_another_seed_gives_another() -> None:
    _, clone = states()
    config = PrivacyConfig(clip=2.0, noise=0.5)
    kept = {"a": clone["a"], "norm.running_var": clone["norm.running_var"], "steps": clone["steps"]}
    first, again, other = (protect(kept, clone, {"a", "norm.running_var"}, config, seed) for seed in (1, 1, 2))
    noise = first["a"] - clone["a"]
    assert float(noise.std()) == pytest.approx(1.0, rel=0.06)
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.08)
    assert torch.equal(first["a"], again["a"])
    assert not torch.equal(first["a"], other["a"])
    assert bool((first["norm.running_var"] > 0).all())
    assert float(abs(first["norm.running_var"] - clone["norm.running_var"]).max()) > 0.1


def test_only_what_follows_from_images_is_blurred() -> None:
    method = build_method("simclr", "resnet10")
    names = telling_names(method)
    assert {name for name, value in method.named_parameters() if value.requires_grad} <= names
    assert any(name.endswith("running_mean") for name in names)
    assert not [name for name in names if name.endswith(("num_batches_tracked", ".mean", ".std"))]


@pytest.mark.parametrize("mu", [0.05, 0.5, 1.0, 3.0, 12.0])
@pytest.mark.parametrize("delta", [1e-2, 1e-5, 1e-9])
def test_epsilon_is_the_root_of_its_equation(mu: float, delta: float) -> None:
    found = epsilon(mu, delta)
    assert excess(found, mu) <= delta
    assert found == 0 or excess(0.999 * found, mu) > delta


@pytest.mark.parametrize(
    ("noise", "visits", "told"), [(1, 1, 9.997256), (2, 1, 4.377178), (4, 1, 1.993091), (4, 10, 7.511276)]
)
def test_epsilon_is_that_of_another_accountant(noise: float, visits: int, told: float) -> None:
    """Numbers of dp-accounting 0.6, whose accountant composes privacy loss distributions, at noise / sensitivity."""
    mu = math.sqrt(visits) * loudness(PrivacyConfig(clip=1.0, noise=noise))
    assert epsilon(mu, 1e-5) == pytest.approx(told, rel=1e-6)


def test_excess_is_the_integral_of_the_densities() -> None:
    """delta(e) = integral of max(0, p - exp(e) q) for N(mu, 1) and N(0, 1)."""
    mu, e = 1.5, 2.0
    x = torch.linspace(-12, 14, 2_000_001, dtype=torch.float64)
    p, q = (torch.exp(-((x - m) ** 2) / 2) / math.sqrt(2 * math.pi) for m in (mu, 0.0))
    integral = float(torch.trapezoid((p - math.exp(e) * q).clamp_min(0), x))
    assert excess(e, mu) == pytest.approx(integral, rel=1e-6)


def test_an_observer_wins_as_often_as_the_total_of_several_visits_allows() -> None:
    """Guessing from k answers which of two farthest data sets was held: the mean is best, and it is one Gaussian."""
    draw, visits, config = random.Random(0), 9, PrivacyConfig(clip=1.0, noise=4.0)
    mu = math.sqrt(visits) * loudness(config)
    wins, rounds = 0, 4000
    for _ in range(rounds):
        side = draw.choice((-1.0, 1.0))
        heard = sum(side * config.clip + draw.gauss(0, config.noise * config.clip) for _ in range(visits))
        wins += (heard > 0) == (side > 0)
    best = 0.5 * math.erfc(-mu / 2 / math.sqrt(2))
    assert wins / rounds == pytest.approx(best, abs=0.02)


def test_more_noise_tells_less_and_too_little_is_refused() -> None:
    told = [epsilon(loudness(PrivacyConfig(clip=1.0, noise=noise)), 1e-5) for noise in (0.5, 1, 2, 8, 1e9)]
    assert told == sorted(told, reverse=True)
    assert told[-1] == 0
    with pytest.raises(SettingsError, match="keeps nothing private"):
        epsilon(1e5, 1e-5)
