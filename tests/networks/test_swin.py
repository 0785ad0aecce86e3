"""Hierarchical transformers: what each depth is, smaller views, published sizes."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillhouse.networks.build import EncoderConfig, build_encoder
from stillhouse.networks.swin import SwinShape, SwinTransformer, _pass
from stillhouse.networks.teacher import MomentumTeacher


def made(name: str = "swin_nano", image_size: int = 16) -> SwinTransformer:
    encoder = build_encoder(EncoderConfig(name=name, image_size=image_size))
    assert isinstance(encoder, SwinTransformer)
    return encoder.eval()


def images(size: int, count: int = 3) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_the_published_shape_has_the_published_number_of_weights() -> None:
    encoder = SwinTransformer(SwinShape(96, (2, 2, 6, 2), 3, window=7), 224, 4, (0.5,) * 3, (0.5,) * 3)
    assert sum(weight.numel() for weight in encoder.parameters()) == 27_519_354
    assert sum(encoder.block_dims[-4:]) == 2304
    with torch.no_grad():
        assert encoder.features(images(224, 1)).tokens.shape == (1, 49, 768)
        assert encoder.features(images(96, 1)).tokens.shape == (1, 9, 768)


@pytest.mark.parametrize(("size", "regions"), [(32, 16), (16, 4), (64, 64), (24, 9)])
def test_regions_of_large_and_small_views(size: int, regions: int) -> None:
    assert made("swin_micro", 32).features(images(size)).tokens.shape == (3, regions, 192)


@pytest.mark.parametrize("size", [16, 8])
def test_depths_are_means_of_maps_before_merging_and_only_the_last_stage_is_normalized(size: int) -> None:
    encoder = made()
    net, found = encoder.network, encoder.features(images(size))
    maps = net.patch_embed(encoder.normalize(images(size)))
    first = _pass(net.layers[0].blocks[0], maps)
    second = _pass(net.layers[0].blocks[1], first)
    third = _pass(net.layers[1].blocks[0], net.layers[1].downsample(second))
    fourth = _pass(net.layers[1].blocks[1], third)
    expected = [first.mean((1, 2)), second.mean((1, 2)), net.norm(third).mean((1, 2)), net.norm(fourth).mean((1, 2))]
    for one, other in zip(found.blocks, expected, strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(found.tokens, net.norm(fourth).flatten(1, 2))
    torch.testing.assert_close(found.tokens.mean(1), found.pooled)


@pytest.mark.parametrize("size", [16, 8, 12])
def test_an_image_is_seen_alike_whatever_is_beside_it(size: int) -> None:
    encoder, batch = made(), images(size)
    together = encoder.features(batch)
    for row in range(len(batch)):
        alone = encoder.features(batch[row : row + 1])
        torch.testing.assert_close(alone.tokens[0], together.tokens[row])
        torch.testing.assert_close(alone.blocks[0][0], together.blocks[0][row])


def attention_by_hand(block: Any, padded: Tensor, shift: int, valid: int) -> Tensor:
    """Attention of `[1, s, s, C]` maps that are padded to whole windows, patch by patch.

    A patch sees those of its window, after the map rolled by `shift`, that the roll has not torn away from it.
    """
    attention, side = block.attn, padded.shape[1]
    window, heads = attention.window_size[0], attention.num_heads
    query, key, value = attention.qkv(padded[0]).unflatten(-1, (3, heads, -1)).unbind(-3)
    bias = attention._get_rel_pos_bias()[0]
    mixed = torch.zeros(side, side, heads, query.shape[-1])
    places = [(row, column) for row in range(side) for column in range(side)]
    rolled = {place: tuple((at - shift) % side for at in place) for place in places}
    for one in places:
        seen = [
            other
            for other in places
            if all(a // window == b // window for a, b in zip(rolled[one], rolled[other], strict=True))
            and all((one[n] < shift) == (other[n] < shift) for n in (0, 1))
        ]
        here = [rolled[place][0] % window * window + rolled[place][1] % window for place in (one, *seen)]
        weights = torch.stack([(query[one] * key[other]).sum(-1) for other in seen]) * attention.scale
        weights = (weights + bias[:, here[0], here[1:]].T).softmax(0)
        mixed[one] = sum(weights[n, :, None] * value[other] for n, other in enumerate(seen))
    answer: Tensor = attention.proj(mixed.flatten(2))[None, :valid, :valid]
    return answer


@pytest.mark.parametrize(
    ("stage", "number", "side"),
    [(0, 0, 8), (0, 1, 8), (0, 1, 4), (0, 0, 6), (0, 1, 6), (0, 1, 3), (1, 0, 4), (1, 1, 2)],
)
@torch.no_grad()
def test_windows_are_those_of_a_slow_loop(stage: int, number: int, side: int) -> None:
    """Large and small views; a map that does not fill its windows is the map padded by hand."""
    block = made().network.layers[stage].blocks[number]
    nn.init.normal_(block.attn.relative_position_bias_table)
    nn.init.normal_(block.attn.qkv.bias)
    block.mlp = nn.Identity()
    maps = torch.randn(1, side, side, block.norm1.normalized_shape[0])
    missing = -side % 4
    padded = F.pad(block.norm1(maps), (0, 0, 0, missing, 0, missing))
    middle = maps + attention_by_hand(block, padded, 2 if (stage, number) == (0, 1) else 0, side)
    torch.testing.assert_close(_pass(block, maps), middle + block.norm2(middle), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [32, 16])
@torch.no_grad()
def test_where_windows_tile_every_map_it_is_timms_network(size: int) -> None:
    encoder = made("swin_micro", 32)
    for name, weight in encoder.network.named_parameters():
        if "bias" in name:
            nn.init.normal_(weight)
    expected = encoder.network.forward_features(encoder.normalize(images(size))).flatten(1, 2)
    torch.testing.assert_close(encoder.features(images(size)).tokens, expected, atol=1e-5, rtol=1e-4)


def test_a_momentum_teacher_drops_no_path_while_its_student_does() -> None:
    student = build_encoder(EncoderConfig(name="timm:swin_tiny_patch4_window7_224", image_size=32)).train()
    teacher, batch = MomentumTeacher(student).train(), images(32, 8)
    assert torch.equal(teacher(batch), teacher(batch))
    assert not torch.equal(student(batch), student(batch))
