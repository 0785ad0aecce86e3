"""A cut encoder is smaller and gives the same vectors."""

import pytest
import torch

from stillhouse.errors import SettingsError
from stillhouse.networks.build import EncoderConfig, build_encoder
from stillhouse.networks.cut import cut
from stillhouse.networks.encoder import undisturbed
from stillhouse.networks.plain import PlainEncoder


@pytest.mark.parametrize(
    ("name", "image_size"),
    [
        ("vit_nano", 16),
        ("swin_nano", 16),
        ("resnet10", 16),
        ("timm:test_vit", 160),
        ("timm:test_convnext", 32),
        ("timm:mobilenetv3_small_050", 32),
    ],
)
def test_every_depth_of_a_cut_encoder_is_the_whole_ones(name: str, image_size: int) -> None:
    encoder = build_encoder(EncoderConfig(name=name, image_size=image_size)).eval()
    images = torch.rand(2, 3, image_size, image_size)
    with undisturbed(encoder):
        whole = encoder.features(images)
    sizes = []
    for depth in range(1, len(encoder.block_dims) + 1):
        short = cut(encoder, depth)
        with undisturbed(short):
            features = short.features(images)
            vector = short(images)
        assert len(features.blocks) == len(short.block_dims) == depth
        assert all(torch.equal(*pair) for pair in zip(features.blocks, whole.blocks[:depth], strict=True))
        assert torch.equal(vector, features.pooled)
        assert torch.equal(vector, features.blocks[-1])
        assert features.tokens.shape[2] == short.dim == vector.shape[1] or depth == len(encoder.block_dims)
        sizes.append(sum(weight.numel() for weight in short.parameters()))
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == sum(weight.numel() for weight in encoder.parameters())


def test_what_cannot_be_cut_is_told() -> None:
    encoder = build_encoder(EncoderConfig(name="vit_nano", image_size=16))
    for depth in (0, 3):
        with pytest.raises(SettingsError, match=f"exit {depth}: the encoder has 2 blocks; choose from 1 to 2"):
            cut(encoder, depth)
    plain = PlainEncoder(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 2)), 4)
    plain.block_dims = (2, 2)
    with pytest.raises(SettingsError, match="a PlainEncoder cannot be cut"):
        cut(plain, 1)
