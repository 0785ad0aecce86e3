"""Decay groups and LARS."""

import copy

import pytest
import torch
from torch import nn

from stillhouse.training.optimizers import (
    LARS,
    clip_each,
    decay_groups,
    make_optimizer,
    pull,
    set_learning_rate,
    set_weight_decay,
)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)).double()


def with_gradients(module: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return module


def test_groups_partition_what_learns() -> None:
    module = network()
    dict(module.named_parameters())["0.weight"].requires_grad_(False)
    decaying, plain = decay_groups(module, 0.1)
    assert [p.ndim for p in decaying["params"]] == [2]
    assert {p.ndim for p in plain["params"]} == {1}
    assert (decaying["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    everything = decay_groups(module, 0.1, decay_all=True)
    assert len(everything) == 1
    assert len(everything[0]["params"]) == 5


def test_lars_without_decay_and_momentum_steps_by_a_share_of_each_weights_norm() -> None:
    module = with_gradients(network())
    before = copy.deepcopy(module)
    LARS(module.parameters(), lr=0.5, momentum=0.0).step()
    for old, new in zip(before.parameters(), module.parameters(), strict=True):
        assert new.grad is not None
        expected = 0.5 * 1e-3 * old.norm() if old.ndim > 1 else 0.5 * new.grad.norm()
        torch.testing.assert_close((new - old).norm(), expected.detach())


def test_lars_equals_the_rule_written_out_tensor_by_tensor() -> None:
    module = network()
    slow = [p.detach().clone() for p in module.parameters()]
    velocity = [torch.zeros_like(p) for p in slow]
    optimizer = LARS(decay_groups(module, 0.01), momentum=0.9)
    for step in range(4):
        with_gradients(module, seed=step)
        gradients = [p.grad for p in module.parameters()]
        set_learning_rate(optimizer, 0.3)
        optimizer.step()
        for i, (weight, gradient) in enumerate(zip(slow, gradients, strict=True)):
            assert gradient is not None
            g, q = gradient, 1.0
            if weight.ndim > 1:
                g = gradient + 0.01 * weight
                q = 1e-3 * float(weight.norm() / g.norm())
            velocity[i] = 0.9 * velocity[i] + q * g
            slow[i] = weight - 0.3 * velocity[i]
    for mine, theirs in zip(module.parameters(), slow, strict=True):
        torch.testing.assert_close(mine.detach(), theirs)


def test_lars_takes_a_plain_step_where_a_norm_is_zero() -> None:
    weight = nn.Parameter(torch.zeros(2, 2))
    weight.grad = torch.ones(2, 2)
    LARS([weight], lr=0.1, momentum=0.0).step()
    torch.testing.assert_close(weight.detach(), torch.full((2, 2), -0.1))


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_an_optimizer_goes_on_from_its_state(name: str) -> None:
    def make(module: nn.Module) -> torch.optim.Optimizer:
        return make_optimizer(name, module, weight_decay=0.1, momentum=0.9, decay_all=False)  # type: ignore[arg-type]

    def step(module: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
        with_gradients(module, seed)
        set_learning_rate(optimizer, 0.01)
        optimizer.step()

    whole = network()
    optimizer = make(whole)
    for seed in range(4):
        step(whole, optimizer, seed)
    first = network()
    begun = make(first)
    step(first, begun, 0)
    step(first, begun, 1)
    second = copy.deepcopy(first)
    resumed = make(second)
    resumed.load_state_dict(copy.deepcopy(begun.state_dict()))
    step(second, resumed, 2)
    step(second, resumed, 3)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))


def test_decay_follows_its_schedule_where_there_is_any() -> None:
    optimizer = make_optimizer("adamw", network(), weight_decay=0.04, momentum=0.9, decay_all=False)
    set_weight_decay(optimizer, 0.2)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.2, 0.0]


def test_every_tensors_gradient_is_shortened_by_itself() -> None:
    module = with_gradients(network())
    before = [p.grad.clone() for p in module.parameters() if p.grad is not None]
    limit = sorted(g.norm().item() for g in before)[2]
    clip_each(module.parameters(), limit)
    for old, parameter in zip(before, module.parameters(), strict=True):
        assert parameter.grad is not None
        expected = old * min(1.0, limit / (old.norm().item() + 1e-6))
        torch.testing.assert_close(parameter.grad, expected)


def test_a_pull_is_the_gradient_of_half_the_squared_distance() -> None:
    torch.manual_seed(0)
    anchors = [torch.randn(3, 4, dtype=torch.float64), torch.randn(5, dtype=torch.float64)]
    weights = [torch.randn_like(anchor).requires_grad_() for anchor in anchors]
    unused = torch.ones(2, dtype=torch.float64, requires_grad=True)
    loss = sum(weight.pow(3).sum() for weight in weights)
    penalty = sum((weight - anchor).square().sum() for weight, anchor in zip(weights, anchors, strict=True))
    wanted = torch.autograd.grad(loss + 0.7 / 2 * penalty, weights)  # type: ignore[arg-type]
    sum(weight.pow(3).sum() for weight in weights).backward()  # type: ignore[union-attr]
    pull([*weights, unused], [*anchors, torch.zeros(2, dtype=torch.float64)], 0.7)
    assert all(torch.allclose(w.grad, g) for w, g in zip(weights, wanted, strict=True) if w.grad is not None)
    assert unused.grad is None
