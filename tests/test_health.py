"""Label-free health: closed forms, what is and what is not alarming."""

import pytest
import torch

from stillhouse.health import effective_rank, examine, mean_cosine, spread
from stillhouse.networks.build import EncoderConfig, build_encoder


def gaussian(count: int, dim: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_spread_is_one_for_gaussian_and_zero_for_constant_data() -> None:
    assert spread(gaussian(20_000, 64)).item() == pytest.approx(1.0, abs=2e-3)
    assert spread(torch.full((50, 64), 3.0)).item() == pytest.approx(0.0, abs=1e-6)


def test_spread_ignores_scale_and_sees_a_common_vector() -> None:
    rows = gaussian(500, 16)
    assert spread(7 * rows).item() == pytest.approx(spread(rows).item())
    assert spread(rows + 100).item() < 0.05


def test_effective_rank_counts_equal_directions() -> None:
    rows = torch.cat([torch.eye(6), -torch.eye(6)]).double()
    assert effective_rank(rows).item() == pytest.approx(6.0)
    assert effective_rank(rows[:, :1]).item() == pytest.approx(1.0)
    assert effective_rank(torch.ones(9, 4)).item() == 0.0


def test_effective_rank_ignores_scale_rotation_shift_and_the_short_side() -> None:
    rows = gaussian(30, 50)
    rotation = torch.linalg.qr(gaussian(50, 50, 1)).Q
    rank = effective_rank(rows).item()
    assert effective_rank(3 * rows @ rotation + 5).item() == pytest.approx(rank)
    eigenvalues = torch.cov(rows.T, correction=0).double()
    share = torch.linalg.eigvalsh(eigenvalues).clamp(min=0)
    share = share / share.sum()
    assert torch.special.entr(share).sum().exp().item() == pytest.approx(rank, rel=1e-6)


def test_mean_cosine_equals_the_loop_over_pairs() -> None:
    rows = gaussian(9, 4)
    unit = rows / rows.norm(dim=1, keepdim=True)
    pairs = [unit[i] @ unit[j] for i in range(9) for j in range(9) if i != j]
    assert mean_cosine(rows).item() == pytest.approx(torch.stack(pairs).mean().item())


@pytest.mark.parametrize("name", ["vit_nano", "vit_micro"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_untrained_transformer_raises_no_alarm(name: str, seed: int) -> None:
    encoder = build_encoder(EncoderConfig(name=name, image_size=32), seed)
    patterns = torch.rand(256, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    images = torch.nn.functional.interpolate(patterns, (32, 32), mode="bilinear")
    with torch.no_grad():
        assert examine(encoder(images)).level == "healthy"


def test_collapse_of_either_kind_is_named() -> None:
    same = examine(torch.ones(64, 32) + 1e-3 * gaussian(64, 32).float())
    assert same.sentence.startswith("collapsed: all images give nearly the same vector")
    line = examine(gaussian(64, 1) * gaussian(1, 32, 1))
    assert line.sentence.startswith("collapsed: images differ along few directions")
    flat = examine(gaussian(64, 2) @ gaussian(2, 32, 1))
    assert flat.sentence.startswith("weak: images differ along few directions")
    leaning = examine(gaussian(400, 32) + 5)
    assert leaning.sentence.startswith("weak: different images give similar vectors")


@pytest.mark.parametrize("count", [3, 4, 8])
def test_few_images_alone_raise_no_alarm(count: int) -> None:
    assert examine(gaussian(count, 32)).level == "healthy"


def test_one_image_and_broken_values_are_not_healthy() -> None:
    assert examine(torch.ones(1, 4)).level == "unknown"
    broken = gaussian(8, 4)
    broken[0, 0] = torch.nan
    assert examine(broken).level == "collapsed"
