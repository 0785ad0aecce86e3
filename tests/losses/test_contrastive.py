"""Oracles of SimCLR, MoCo v3 and SDSSL's SimCLR form. Letters: N images, E width."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stillhouse.losses import strips
from stillhouse.losses.contrastive import contrastive_cross_entropy, cross_view_nce, info_nce, nt_xent


def random_rows(count: int, width: int = 16, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    rows = F.normalize(torch.cat([first, second]), dim=1)
    total = rows.new_zeros(())
    for i, row in enumerate(rows):
        partner = (i + len(first)) % len(rows)
        others = [torch.exp(row @ other / temperature) for k, other in enumerate(rows) if k != i]
        total = total - torch.log(torch.exp(row @ rows[partner] / temperature) / torch.stack(others).sum())
    return total / len(rows)


@pytest.mark.parametrize(
    ("count", "temperature", "value"),
    [(4, 0.2, 0.0396319), (256, 0.5, 4.24880), (256, 0.2, 1.48983), (256, 0.1, 0.0228900)],
)
def test_nt_xent_of_equal_orthonormal_views(count: int, temperature: float, value: float) -> None:
    rows = torch.eye(count)
    assert nt_xent(rows, rows, temperature).item() == pytest.approx(value, rel=2e-5)
    assert value == pytest.approx(math.log(1 + (2 * count - 2) * math.exp(-1 / temperature)), rel=2e-5)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_of_collapsed_and_of_all_orthonormal_rows(temperature: float) -> None:
    same = torch.ones(256, 8)
    assert nt_xent(same, same, temperature).item() == pytest.approx(6.23637, rel=1e-5)
    apart = torch.eye(512)
    assert nt_xent(apart[:256], apart[256:], temperature).item() == pytest.approx(math.log(511), rel=1e-5)


def test_nt_xent_does_not_mind_swaps_rotations_scales_and_orders() -> None:
    first, second = random_rows(6, seed=1), random_rows(6, seed=2)
    value = nt_xent(first, second, 0.3)
    rotation = torch.linalg.qr(random_rows(16, seed=3)).Q
    scales = torch.rand(6, 1, dtype=torch.float64) + 0.5
    order = torch.randperm(6)
    for changed in (
        nt_xent(second, first, 0.3),
        nt_xent(first @ rotation, second @ rotation, 0.3),
        nt_xent(first * scales, second * scales.flip(0), 0.3),
        nt_xent(first[order], second[order], 0.3),
    ):
        torch.testing.assert_close(changed, value)


def test_nt_xent_of_one_image_is_zero_with_zero_gradient() -> None:
    first, second = random_rows(1, seed=1).requires_grad_(), random_rows(1, seed=2).requires_grad_()
    loss = nt_xent(first, second, 0.2)
    loss.backward()
    assert loss.item() == 0
    assert first.grad is not None
    assert first.grad.abs().max() < 1e-15


@pytest.mark.parametrize("chunk", [3, 512])
@pytest.mark.parametrize("temperature", [0.2, 0.02])
def test_nt_xent_equals_the_slow_loop_in_value_and_gradient(
    chunk: int, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strips, "CHUNK_SIZE", chunk)
    inputs = first, second = random_rows(7, seed=1).requires_grad_(), random_rows(7, seed=2).requires_grad_()
    fast, slow = nt_xent(first, second, 0.2), slow_nt_xent(first, second, 0.2)
    assert fast.item() == pytest.approx(slow.item(), abs=1e-10)
    for mine, theirs in zip(torch.autograd.grad(fast, inputs), torch.autograd.grad(slow, inputs), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-10, rtol=0)


@pytest.mark.parametrize("chunk", [2, 512])
def test_gradient_of_info_nce_into_queries_and_keys(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "CHUNK_SIZE", chunk)
    inputs = [random_rows(5, 4, seed=seed).requires_grad_() for seed in (1, 2)]
    assert torch.autograd.gradcheck(lambda query, key: 3 * info_nce(query, key, 0.4), inputs)


def test_excluded_keys_and_given_positives() -> None:
    query, key = random_rows(5, 4, seed=1), random_rows(9, 4, seed=2)
    positive, excluded = torch.tensor([8, 1, 2, 0, 5]), torch.tensor([0, 0, 1, 8, 6])
    logits = query @ key.T / 0.7
    logits[torch.arange(5), excluded] = -torch.inf
    expected = F.cross_entropy(logits, positive)
    torch.testing.assert_close(contrastive_cross_entropy(query, key, positive, 0.7, excluded=excluded), expected)


def test_info_nce_of_orthonormal_collapsed_and_shuffled_rows() -> None:
    assert 0.4 * info_nce(torch.eye(4), torch.eye(4), 0.2).item() == pytest.approx(0.0080049, rel=1e-4)
    for count, value in ((256, 2.21807), (1024, 2.77259), (4096, 3.32711)):
        assert 0.4 * info_nce(torch.ones(count, 2), torch.ones(count, 2), 0.2).item() == pytest.approx(value, rel=1e-5)
    query, key, order = random_rows(8, seed=1), random_rows(8, seed=2), torch.randperm(8)
    torch.testing.assert_close(info_nce(query[order], key[order], 0.2), info_nce(query, key, 0.2))


def test_ranks_with_shifted_positives_equal_one_rank() -> None:
    """Rank r's query i looks for key i + n r among all keys; the mean over ranks is the loss of the joined batch."""
    query, key = random_rows(12, seed=1), random_rows(12, seed=2)
    parts = [info_nce(query[4 * r : 4 * r + 4], key, 0.2, start=4 * r) for r in range(3)]
    torch.testing.assert_close(torch.stack(parts).mean(), info_nce(query, key, 0.2))
    views = query.chunk(2)
    parts = [
        cross_view_nce(torch.cat([view[2 * r : 2 * r + 2] for view in views]), key, 0.2, start=2 * r) for r in range(3)
    ]
    torch.testing.assert_close(torch.stack(parts).mean(), cross_view_nce(query, key, 0.2))


def test_cross_view_nce_is_nt_xent_when_queries_are_the_keys() -> None:
    rows = random_rows(10, seed=4)
    torch.testing.assert_close(cross_view_nce(rows, rows, 0.2), nt_xent(rows[:5], rows[5:], 0.2))


def test_cross_view_nce_never_sees_its_own_view() -> None:
    query, key = random_rows(10, seed=4), random_rows(10, seed=5)
    loss = cross_view_nce(query[:1].repeat(10, 1), key, 0.2)
    torch.testing.assert_close(loss, cross_view_nce(query[:1].repeat(10, 1), key.clone(), 0.2))
    own = F.normalize(query, dim=1) @ F.normalize(key, dim=1).T / 0.2
    own.fill_diagonal_(-torch.inf)
    positive = torch.arange(10).roll(5)
    torch.testing.assert_close(cross_view_nce(query, key, 0.2), F.cross_entropy(own, positive))
    assert own.isfinite().sum(1).tolist() == [9] * 10  # 2B - 1 terms, the positive among them


def test_a_half_precision_batch_is_lifted_to_float32() -> None:
    rows = random_rows(64).to(torch.bfloat16)
    loss = nt_xent(rows[:32], rows[32:], 0.01)
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(nt_xent(rows[:32].float(), rows[32:].float(), 0.01), loss)


def test_keys_without_gradient_get_none() -> None:
    query, key = random_rows(4).requires_grad_(), random_rows(4, seed=1).requires_grad_()
    info_nce(query, key.detach(), 0.2).backward()
    assert query.grad is not None
    assert key.grad is None
