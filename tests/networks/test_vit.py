"""The vision transformer of SDSSL's sheet."""

import math

import pytest
import torch
from torch.nn import functional as F

from stillhouse.networks.build import EncoderConfig, build_encoder
from stillhouse.networks.vit import VIT_SHAPES, VisionTransformer, attend, sincos_positions


def vit(name: str = "vit_nano", image_size: int = 32) -> VisionTransformer:
    encoder = build_encoder(EncoderConfig(name=name, image_size=image_size), seed=1)
    assert isinstance(encoder, VisionTransformer)
    return encoder


@pytest.mark.parametrize(
    ("name", "image_size", "millions"),
    [("vit_micro", 32, 0.676), ("vit_tiny", 32, 5.36), ("vit_small", 224, 21.6), ("vit_base", 224, 85.7)],
)
def test_sizes(name: str, image_size: int, millions: float) -> None:
    encoder = vit(name, image_size)
    assert sum(p.numel() for p in encoder.parameters()) / 1e6 == pytest.approx(millions, rel=0.005)
    assert encoder.block_dims == (VIT_SHAPES[name].dim,) * VIT_SHAPES[name].depth


def test_positions_by_the_formula() -> None:
    positions = sincos_positions(3, 5, 16)
    assert positions.shape == (16, 16)
    assert positions[0].abs().max() == 0
    for i in range(3):
        for j in range(5):
            for k in range(4):
                w = 10000 ** (-k / 4)
                row = positions[1 + 5 * i + j]
                expected = [math.sin(i * w), math.cos(i * w), math.sin(j * w), math.cos(j * w)]
                assert row[k::4].tolist() == pytest.approx(expected, abs=1e-6)


def test_the_last_block_is_the_ordinary_output_to_the_bit() -> None:
    encoder, images = vit("vit_micro"), torch.rand(3, 3, 32, 32)
    features = encoder.features(images)
    assert torch.equal(features.blocks[-1], encoder(images))
    assert torch.equal(features.pooled, encoder(images))
    assert len(features.blocks) == 6
    assert features.tokens.shape == (3, 64, 96)


def test_a_block_is_read_through_the_final_norm_without_touching_the_stream() -> None:
    encoder, images = vit("vit_micro"), torch.rand(2, 3, 32, 32)
    stream = encoder._embed(images)
    states = []
    for block in encoder.blocks:
        stream = block(stream)
        states.append(encoder.norm(stream)[:, 0])
    for mine, slow in zip(encoder.features(images).blocks, states, strict=True):
        torch.testing.assert_close(mine, slow)


def test_patch_projection_and_positions_are_frozen() -> None:
    encoder = vit()
    assert not encoder.patch_projection.weight.requires_grad
    assert encoder.patch_projection.bias is not None
    assert not encoder.patch_projection.bias.requires_grad
    assert not encoder.positions.requires_grad
    encoder(torch.rand(2, 3, 32, 32)).sum().backward()
    assert encoder.patch_projection.weight.grad is None
    assert encoder.class_token.grad is not None


def test_initialization_bounds() -> None:
    encoder = vit("vit_tiny")
    dim = 192
    patch = encoder.patch_projection.weight.abs().max().item()
    assert patch == pytest.approx(math.sqrt(6 / (3 * 16 + dim)), rel=0.01)
    weights = dict(encoder.named_parameters())
    assert weights["blocks.0.qkv.weight"].abs().max().item() == pytest.approx(math.sqrt(6 / (2 * dim)), rel=0.01)
    assert weights["blocks.0.expand.weight"].abs().max().item() == pytest.approx(math.sqrt(6 / (5 * dim)), rel=0.01)
    assert encoder.class_token.abs().max().item() < 1e-5
    for name, parameter in encoder.named_parameters():
        if name.endswith("bias"):
            assert parameter.abs().max() == 0


def test_another_image_size_gets_positions_of_its_own_grid() -> None:
    encoder = vit()
    assert encoder.features(torch.rand(2, 3, 16, 16)).tokens.shape == (2, 16, 64)
    assert encoder.features(torch.rand(2, 3, 16, 32)).tokens.shape == (2, 32, 64)


def test_same_seed_same_weights_and_the_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    first, second = vit(), vit()
    assert torch.equal(before, torch.get_rng_state())
    for mine, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 0.0), (torch.float32, 0.0), (torch.bfloat16, 2e-2)])
def test_attention_is_that_of_the_fused_kernel_in_value_and_gradient(dtype: torch.dtype, within: float) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(3, 2, 4, 9, 8, dtype=torch.float64, generator=generator)
    own, exact = rows.to(dtype).requires_grad_(), rows.to(dtype if not within else torch.float64).requires_grad_()
    mine, wanted = attend(*own), F.scaled_dot_product_attention(*exact)
    assert mine.dtype == dtype
    weights = torch.randn(2, 4, 9, 8, dtype=torch.float64, generator=generator)
    (mine * weights.to(dtype)).sum().backward()
    (wanted * weights.to(wanted.dtype)).sum().backward()
    assert own.grad is not None
    assert exact.grad is not None
    torch.testing.assert_close(mine.to(exact.dtype), wanted, atol=within, rtol=within)
    torch.testing.assert_close(own.grad.to(exact.dtype), exact.grad, atol=5 * within, rtol=within)
