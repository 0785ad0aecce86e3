"""Hierarchical transformers: what each depth is, smaller views, published sizes."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillhouse.networks.build import EncoderConfig, build_encoder
from stillhouse.networks.swin import SWIN_SHAPES, SwinShape, SwinTransformer
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


@pytest.mark.parametrize(("size", "regions"), [(32, 16), (16, 4), (64, 64)])
def test_regions_of_large_and_small_views(size: int, regions: int) -> None:
    assert made("swin_micro", 32).features(images(size)).tokens.shape == (3, regions, 192)


@pytest.mark.parametrize("size", [16, 8])
def test_depths_are_means_of_maps_before_merging_and_only_the_last_stage_is_normalized(size: int) -> None:
    encoder = made()
    net, found = encoder.network, encoder.features(images(size))
    maps = net.patch_embed(encoder.normalize(images(size)))
    first = net.layers[0].blocks[0](maps)
    second = net.layers[0].blocks[1](first)
    third = net.layers[1].blocks[0](net.layers[1].downsample(second))
    fourth = net.layers[1].blocks[1](third)
    expected = [first.mean((1, 2)), second.mean((1, 2)), net.norm(third).mean((1, 2)), net.norm(fourth).mean((1, 2))]
    for one, other in zip(found.blocks, expected, strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(found.tokens, net.norm(fourth).flatten(1, 2))
    torch.testing.assert_close(found.tokens.mean(1), found.pooled)


@pytest.mark.parametrize("size", [16, 8])
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


@pytest.mark.parametrize(("stage", "number", "side"), [(0, 0, 8), (0, 1, 8), (0, 1, 4), (1, 0, 4), (1, 1, 2)])
@torch.no_grad()
def test_windows_are_those_of_a_slow_loop(stage: int, number: int, side: int) -> None:
    """Large and small views; a map that does not fill its window equals the map padded by hand."""
    block = made().network.layers[stage].blocks[number]
    nn.init.normal_(block.attn.relative_position_bias_table)
    nn.init.normal_(block.attn.qkv.bias)
    maps = torch.randn(1, side, side, block.dim)
    window = block.window_size[0]
    missing = -side % window
    shift = window // 2 if number % 2 and stage == 0 else 0
    padded = F.pad(maps, (0, 0, 0, missing, 0, missing))
    torch.testing.assert_close(block._attn(maps), attention_by_hand(block, padded, shift, side), atol=1e-5, rtol=1e-4)


def test_maps_that_windows_do_not_tile_are_refused() -> None:
    with pytest.raises(ValueError, match=r"maps of .* are not tiled by windows of 4"):
        made()(images(24))
    assert SWIN_SHAPES["swin_micro"].takes(16)
    assert not SWIN_SHAPES["swin_micro"].takes(24)
    assert all(shape.takes(shape.step) and shape.takes(3 * shape.step) for shape in SWIN_SHAPES.values())


def test_a_momentum_teacher_drops_no_path_while_its_student_does() -> None:
    student = build_encoder(EncoderConfig(name="timm:swin_tiny_patch4_window7_224", image_size=32)).train()
    teacher, batch = MomentumTeacher(student).train(), images(32, 8)
    assert torch.equal(teacher(batch), teacher(batch))
    assert not torch.equal(student(batch), student(batch))
