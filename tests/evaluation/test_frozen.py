"""Reading an encoder: right numbers, one pass, no trace."""

import random

import pytest
import torch
from torch import Tensor

from stillhouse.data.augment import center_view
from stillhouse.errors import TrainingError
from stillhouse.evaluation.baselines import Pixels
from stillhouse.evaluation.features import extract
from stillhouse.networks.build import EncoderConfig, build_encoder
from tests.evaluation.made_up import make_encoder, make_store


def modes(encoder: torch.nn.Module) -> list[bool]:
    return [module.training for module in encoder.modules()]


def test_vectors_are_those_of_the_encoder_whatever_the_batch_size() -> None:
    store, encoder = make_store([0, 1, 2, -1, 1, 0, 2]), make_encoder()
    encoder.eval()
    with torch.no_grad():
        expected = encoder.features(center_view(store.gather(torch.arange(7)), 8)).blocks
    for batch_size in (1, 3, 100):
        found = extract(encoder, store, batch_size=batch_size)
        assert torch.equal(found.labels, store.labels)
        for one, other in zip(found.blocks, expected, strict=True):
            torch.testing.assert_close(one, other)
    chosen = extract(encoder, store, torch.tensor([4, 0]))
    assert chosen.labels.tolist() == [1, 0]
    torch.testing.assert_close(chosen.blocks[1], expected[1][[4, 0]])


def test_all_blocks_come_from_one_pass() -> None:
    store = make_store([0, 1, 2])
    extract(make_encoder(), store)
    assert store.passes == 1


def test_leaves_no_trace() -> None:
    store, encoder = make_store([0, 1, 2, 1]), make_encoder()
    encoder.train()
    encoder.frozen.eval()
    before, weights = modes(encoder), {name: value.clone() for name, value in encoder.state_dict().items()}
    states = torch.get_rng_state(), random.getstate()
    features = extract(encoder, store)
    assert modes(encoder) == before
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, weights[name]), name
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert not features.blocks[0].requires_grad
    assert torch.is_grad_enabled()


def test_modes_come_back_after_a_failure() -> None:
    encoder = make_encoder(image_size=3)  # smaller than its own stem
    encoder.train()
    before = modes(encoder)
    with pytest.raises(RuntimeError):
        extract(encoder, make_store([0, 1], size=3))
    assert modes(encoder) == before


def test_bf16_gives_nearly_the_same_in_float32() -> None:
    store, encoder = make_store([0, 1, 2, 1]), make_encoder()
    exact, rough = extract(encoder, store), extract(encoder, store, bf16=True)
    assert rough.blocks[1].dtype == torch.float32
    assert not torch.equal(rough.blocks[1], exact.blocks[1])
    torch.testing.assert_close(rough.blocks[1], exact.blocks[1], atol=0.05, rtol=0.05)


def test_values_that_are_not_finite_are_refused() -> None:
    encoder = make_encoder()
    torch.nn.init.constant_(encoder.get_parameter("head.1.weight"), torch.nan)
    with pytest.raises(TrainingError, match=r"encoder, block 2: vectors of 3 images are not finite; train again"):
        extract(encoder, make_store([0, 1, 2]))


def test_images_that_turn_out_unreadable_are_left_out() -> None:
    store = make_store([0, 1, 2, 1, 0], bad=(1, 3))
    found = extract(make_encoder(), store, torch.tensor([4, 3, 2]))
    assert found.kept.tolist() == [0, 2]
    assert found.labels.tolist() == [0, 2]
    assert found.blocks[0].shape == (2, 8)


def test_progress_ends_at_one() -> None:
    shares: list[float] = []
    extract(make_encoder(), make_store([0] * 5), batch_size=2, progress=shares.append)
    assert shares == [0.4, 0.8, 1.0]


@pytest.mark.parametrize("name", ["vit_nano", "resnet10"])
def test_real_encoders_give_their_blocks(name: str) -> None:
    encoder = build_encoder(EncoderConfig(name=name, image_size=16, patch_size=4))
    found = extract(encoder, make_store([0, 1, 2], size=16))
    assert tuple(block.shape[1] for block in found.blocks) == encoder.block_dims


def test_pixels_are_the_image_laid_flat() -> None:
    store = make_store([0, 1])
    (flat,) = extract(Pixels(8), store).blocks
    expected: Tensor = store.images.flatten(1) / 255
    torch.testing.assert_close(flat, expected)


def test_large_pixels_shrink_to_32_and_keep_their_mean() -> None:
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    pixels = Pixels(96)
    flat = pixels(images)
    assert flat.shape == (2, pixels.dim) == (2, 3072)
    torch.testing.assert_close(flat.view(2, 3, -1).mean(2), images.mean((2, 3)), atol=0.01, rtol=0)
