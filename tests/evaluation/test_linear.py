"""Linear probes: agreement with scikit-learn, closed forms, and what may be chosen by what."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor

from stillhouse.evaluation.linear import LEARNING_RATES, Protocol, fit_probe
from stillhouse.evaluation.logistic import Linear, cross_entropy, fit_logistic, zero_linear
from stillhouse.evaluation.ridge import fit_ridge
from stillhouse.evaluation.scaling import fit_scaling
from stillhouse.evaluation.split import hold_out, thin
from stillhouse.evaluation.sweep import fit_sgd


def problem(count: int, dim: int, num_classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Badly conditioned rows with a large mean, and labels that no linear layer gets right."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, dim, generator=generator, dtype=torch.float64)
    truth = torch.randn(dim, num_classes, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    noise = torch.randn(count, num_classes, generator=generator, dtype=torch.float64)
    labels = (rows @ truth + 2 * noise).argmax(1)
    mixing = torch.randn(dim, dim, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    return rows * torch.linspace(2, 0.1, dim) @ mixing + 4, labels


def covariance(rows: Tensor) -> Tensor:
    return torch.cov(rows.mT, correction=0)


@pytest.mark.parametrize("inverse", [0.01, 1.0, 100.0])
def test_coefficients_equal_scikit_learn(inverse: float) -> None:
    rows, labels = problem(400, 6, 4)
    reference = LogisticRegression(C=inverse, tol=1e-12, max_iter=20_000, solver="newton-cholesky")
    reference.fit(rows.numpy(), labels.numpy())
    l2 = 1 / (inverse * len(rows))
    found = fit_logistic(
        rows, labels, zero_linear(rows, 4), l2=l2, gram=covariance(rows), tolerance=1e-12, max_steps=5000
    )
    np.testing.assert_allclose(found.weight.numpy(), reference.coef_, atol=1e-6)
    bias = found.bias - found.bias.mean()
    np.testing.assert_allclose(bias.numpy(), reference.intercept_ - reference.intercept_.mean(), atol=1e-6)


def test_the_probe_agrees_with_scikit_learn_in_accuracy() -> None:
    rows, labels = problem(3000, 12, 5)
    asked, truth = problem(2000, 12, 5, seed=1)
    probe = fit_probe(rows.float(), labels, 5)
    scale = probe.scaling.scale[0].item()
    reference = LogisticRegression(C=1 / (probe.value * scale**2 * len(rows)), max_iter=20_000, tol=1e-8)
    expected = reference.fit(rows.numpy(), labels.numpy()).score(asked.numpy(), truth.numpy())
    assert (probe.classify(asked.float()) == truth).double().mean().item() == pytest.approx(expected, abs=1e-3)
    assert probe.held_out > 0.4
    assert not probe.at_edge


def test_gradient_equals_autograd() -> None:
    rows, labels = problem(5000, 7, 3)
    linear = Linear(torch.randn(3, 7, dtype=torch.float64) / 10, torch.randn(3, dtype=torch.float64))
    weight, bias = (tensor.clone().requires_grad_() for tensor in (linear.weight, linear.bias))
    expected = torch.nn.functional.cross_entropy(rows @ weight.mT + bias, labels)
    expected.backward()
    loss, slope = cross_entropy(rows, labels, linear)
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(slope.weight, weight.grad)
    torch.testing.assert_close(slope.bias, bias.grad)


def test_loss_of_the_start_is_the_log_of_the_number_of_classes() -> None:
    rows, labels = problem(64, 3, 5)
    assert cross_entropy(rows, labels, zero_linear(rows, 5))[0].item() == pytest.approx(math.log(5))


def test_an_endless_penalty_leaves_the_log_priors() -> None:
    rows, labels = problem(300, 4, 3)
    found = fit_logistic(rows, labels, zero_linear(rows, 3), l2=1e9, gram=covariance(rows), tolerance=1e-12)
    priors = torch.bincount(labels).double() / len(labels)
    torch.testing.assert_close(found.bias.log_softmax(0), priors.log(), atol=1e-6, rtol=0)
    assert found.weight.abs().max() < 1e-6


def test_float32_rows_give_the_same_optimum_to_four_digits() -> None:
    rows, labels = problem(2000, 8, 4)
    scaling = fit_scaling(rows, standardize=False)
    scaled = scaling.apply(rows)
    pair = [
        fit_logistic(data, labels, zero_linear(data, 4), l2=1e-4, gram=scaling.gram, tolerance=1e-5)
        for data in (scaled, scaled.float())
    ]
    torch.testing.assert_close(pair[0].weight, pair[1].weight, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("standardize", [False, True])
def test_scaled_rows_are_centered_and_of_unit_size(standardize: bool) -> None:
    rows, _ = problem(500, 9, 2)
    rows[:, 3] = 1.25  # says nothing
    scaling = fit_scaling(rows, standardize=standardize)
    scaled = scaling.apply(rows)
    gram = scaled.mT @ scaled / len(rows)
    torch.testing.assert_close(gram, scaling.gram, atol=1e-9, rtol=0)
    assert scaled.mean(0).abs().max() < 1e-9
    assert scaled.square().sum(1).mean().item() == pytest.approx(1.0)
    telling = torch.arange(9) != 3
    equal = scaled[:, telling].std(0, correction=0) if standardize else scaling.scale
    torch.testing.assert_close(equal, equal[:1].expand_as(equal))
    order = torch.tensor([4, 0, 4])
    torch.testing.assert_close(scaling.apply(rows, order), scaled[order])


def test_ridge_equals_scikit_learn() -> None:
    rows, labels = problem(300, 6, 3)
    scaling = fit_scaling(rows, standardize=False)
    scaled = scaling.apply(rows)
    found = fit_ridge(scaled, labels, 3, 1e-3, scaling.gram)
    reference = Ridge(alpha=1e-3 * len(rows)).fit(scaled.numpy(), np.eye(3)[labels.numpy()])
    np.testing.assert_allclose(found.weight.numpy(), reference.coef_, atol=1e-8)
    np.testing.assert_allclose(found.bias.numpy(), reference.intercept_, atol=1e-8)


def test_rates_swept_together_equal_rates_trained_alone() -> None:
    rows, labels = problem(700, 10, 4)
    rows = fit_scaling(rows, standardize=False).apply(rows).float()
    together = fit_sgd(rows, labels, 4, (0.1, 1.0, 5.0), seed=3, epochs=4)
    for rate, classifier in zip((0.1, 1.0, 5.0), together, strict=True):
        (alone,) = fit_sgd(rows, labels, 4, (rate,), seed=3, epochs=4)
        assert torch.equal(alone.weight, classifier.weight)
        assert torch.equal(alone.bias, classifier.bias)


def test_sgd_equals_the_optimizer_of_torch() -> None:
    rows, labels = problem(100, 5, 3)
    rows = rows.float() / 10
    (found,) = fit_sgd(rows, labels, 3, (0.5,), seed=1, epochs=3)
    generator = torch.Generator().manual_seed(1)
    layer = torch.nn.Linear(5, 3)
    torch.nn.init.zeros_(layer.bias)
    layer.weight.data = 0.01 * torch.randn(3, 5, generator=generator)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3)
    for _ in range(3):
        order = torch.randperm(100, generator=generator)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(layer(rows[order]), labels[order]).backward()
        optimizer.step()
        schedule.step()
    torch.testing.assert_close(found.weight, layer.weight.detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("protocol", ["lbfgs", "sgd", "ridge"])
def test_every_protocol_finds_what_is_separable(protocol: Protocol) -> None:
    labels = torch.arange(120) % 3
    rows = 100 + torch.eye(3)[labels] + 0.1 * torch.randn(120, 3, generator=torch.Generator().manual_seed(0))
    probe = fit_probe(rows, labels, 3, protocol=protocol)
    assert (probe.classify(rows) == labels).all()
    assert probe.held_out == 1.0
    assert probe.setting == ("learning_rate" if protocol == "sgd" else "l2")


def test_a_rate_that_explodes_is_not_chosen() -> None:
    rows, labels = problem(600, 4, 3)
    huge = fit_sgd(1e18 * rows.float(), labels, 3, LEARNING_RATES, seed=0, epochs=2)
    assert not torch.isfinite(huge[-1].weight).all()
    probe = fit_probe(rows.float(), labels, 3, protocol="sgd")
    assert torch.isfinite(probe.linear.weight).all()


def test_labels_without_meaning_give_no_more_than_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    rows, labels = torch.randn(2000, 30, generator=generator), torch.randint(0, 4, (2000,), generator=generator)
    asked, truth = torch.randn(2000, 30, generator=generator), torch.randint(0, 4, (2000,), generator=generator)
    accuracy = (fit_probe(rows, labels, 4).classify(asked) == truth).double().mean().item()
    assert abs(accuracy - 0.25) < 0.04


def test_one_class_and_one_image_per_class_work() -> None:
    rows = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    assert not fit_probe(rows, torch.zeros(10, dtype=torch.int64), 1).classify(rows).any()
    alone = fit_probe(rows, torch.arange(10), 10)
    assert math.isnan(alone.held_out)
    assert alone.classify(rows).shape == (10,)
    assert fit_probe(torch.ones(6, 2), torch.arange(6) % 2, 2).classify(torch.ones(1, 2)).item() in (0, 1)


def test_held_out_part_is_stratified_seeded_and_leaves_every_class_something() -> None:
    labels = torch.tensor([0] * 50 + [1] * 20 + [2] * 2 + [3])
    kept, held = hold_out(labels, 0.1, seed=4)
    assert torch.equal(torch.cat([kept, held]).sort().values, torch.arange(73))
    assert torch.bincount(labels[held], minlength=4).tolist() == [5, 2, 1, 0]
    assert torch.equal(held, hold_out(labels, 0.1, seed=4)[1])
    assert not torch.equal(held, hold_out(labels, 0.1, seed=5)[1])


def test_thinning_keeps_a_mixture() -> None:
    assert thin(torch.arange(10), 4).tolist() == [0, 3, 6, 9]
    assert thin(torch.arange(3), 4).tolist() == [0, 1, 2]


def test_a_choice_by_few_images_is_made_by_several_draws() -> None:
    """One tenth of 50 images, some with wrong labels, cannot tell penalties apart, and the strongest would be taken."""
    labels, asked = torch.arange(50) % 10, torch.arange(500) % 10
    centers = torch.randn(10, 20, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(550, 20, generator=torch.Generator().manual_seed(2))
    rows, queries = centers[labels] + noise[:50], centers[asked] + noise[50:]
    told = torch.cat([(labels[:10] + 3) % 10, labels[10:]])
    probes = [fit_probe(rows, told, 10, seed=seed) for seed in range(5)]
    assert sum((probe.classify(queries) == asked).double().mean().item() for probe in probes) / 5 > 0.88
