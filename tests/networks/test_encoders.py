"""Every encoder keeps the same promise."""

import pytest
import torch

from stillhouse.errors import SettingsError
from stillhouse.networks.build import EncoderConfig, build_encoder
from stillhouse.networks.encoder import undisturbed

SMALL = [
    ("vit_nano", 32),
    ("swin_nano", 16),
    ("swin_micro", 32),
    ("resnet10", 32),
    ("resnet18", 64),
    ("cnn_nano", 8),
    ("cnn_micro", 32),
    ("timm:test_vit", 160),
    ("timm:test_resnet", 64),
    ("timm:test_efficientnet", 64),
    ("timm:test_convnext", 64),
    ("timm:mobilenetv3_small_050", 64),
    ("timm:skresnet18", 32),
]


@pytest.mark.parametrize(("name", "image_size"), SMALL)
def test_contract(name: str, image_size: int) -> None:
    encoder = build_encoder(EncoderConfig(name=name, image_size=image_size)).eval()
    images = torch.rand(2, 3, image_size, image_size)
    features = encoder.features(images)
    assert encoder.image_size == image_size
    assert features.pooled.shape == (2, encoder.dim)
    assert features.tokens.ndim == 3
    assert features.tokens.shape[0] == 2
    assert tuple(block.shape[1] for block in features.blocks) == encoder.block_dims
    assert torch.equal(features.blocks[-1], features.pooled)
    assert torch.equal(encoder(images), features.pooled)
    assert all(block.isfinite().all() for block in features.blocks)
    assert not torch.allclose(encoder(images * 0.5), features.pooled)


def test_a_hierarchical_transformer_of_timm() -> None:
    encoder = build_encoder(EncoderConfig(name="timm:swin_tiny_patch4_window7_224", image_size=224)).eval()
    features = encoder.features(torch.rand(1, 3, 224, 224))
    assert encoder.block_dims == (96, 192, 384, 768)
    assert features.tokens.shape == (1, 49, 768)
    torch.testing.assert_close(features.tokens.mean(1), features.pooled, atol=1e-5, rtol=1e-4)
    assert encoder.features(torch.rand(1, 3, 96, 96)).tokens.shape == (1, 9, 768)
    assert sum(weight.numel() for weight in encoder.parameters()) == 27_519_354


@pytest.mark.parametrize("name", ["pvt_v2_b0", "davit_tiny", "mobilevit_xxs"])
def test_other_multi_stage_networks_of_timm_take_smaller_views(name: str) -> None:
    encoder = build_encoder(EncoderConfig(name=f"timm:{name}", image_size=64)).eval()
    with torch.no_grad():
        assert encoder.features(torch.rand(1, 3, 64, 64)).tokens.shape[1] == 4
        assert encoder.features(torch.rand(1, 3, 32, 32)).tokens.shape[1] == 1


def test_normalization_is_the_encoders_own() -> None:
    config = EncoderConfig(name="vit_nano", image_size=32)
    plain = build_encoder(EncoderConfig(name="vit_nano", image_size=32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)))
    images = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (config.mean, config.std))
    torch.testing.assert_close(build_encoder(config)(images), plain((images - mean) / std))


@pytest.mark.parametrize(("stem", "side"), [("cifar", 4), ("compact", 2), ("imagenet", 1)])
def test_stems_of_a_residual_network(stem: str, side: int) -> None:
    config = EncoderConfig(name="resnet18", image_size=32, stem=stem)  # type: ignore[arg-type]
    features = build_encoder(config).features(torch.rand(2, 3, 32, 32))
    assert features.tokens.shape == (2, side**2, 512)
    assert [block.shape[1] for block in features.blocks] == [64, 128, 256, 512]


def test_a_plain_convolutional_network_halves_its_map_at_every_depth() -> None:
    features = build_encoder(EncoderConfig(name="cnn_micro", image_size=32)).features(torch.rand(2, 3, 32, 32))
    assert [block.shape[1] for block in features.blocks] == [16, 32, 64, 128]
    assert features.tokens.shape == (2, 4, 128)
    torch.testing.assert_close(features.tokens.mean(1), features.pooled)


def test_what_follows_from_the_images() -> None:
    assert EncoderConfig().fit(32) == EncoderConfig(name="vit_micro", image_size=32, patch_size=4)
    assert EncoderConfig().fit(224) == EncoderConfig(name="vit_tiny", image_size=224, patch_size=16)
    assert EncoderConfig(name="vit_small").fit(224).patch_size == 16
    assert EncoderConfig(name="resnet18").fit(32).stem == "cifar"
    assert EncoderConfig(name="vit_nano", stem="compact").fit(32).stem == "auto"
    assert EncoderConfig(name="resnet10", patch_size=4).fit(32).patch_size == 0
    assert EncoderConfig(name="resnet18").fit(64).stem == "compact"
    assert EncoderConfig(name="resnet18", image_size=96).fit(32).image_size == 96
    assert EncoderConfig(name="resnet50").fit(224).stem == "imagenet"


@pytest.mark.parametrize(
    ("config", "hint"),
    [
        (EncoderConfig(name="vit_tinny", image_size=32), "did you mean vit_tiny"),
        (EncoderConfig(name="timm:resnet10tt", image_size=32), "timm knows no"),
        (EncoderConfig(name="vit_nano", image_size=32, patch_size=5), "does not divide"),
        (EncoderConfig(name="timm:test_vit", image_size=8), "does not run at 8 px"),
        (EncoderConfig(name="swin_micro", image_size=33), "2 does not divide the image size 33; set .*=32"),
        (EncoderConfig(name="swin_tiny", image_size=32), "did you mean swin_mini"),
    ],
)
def test_mistakes_are_told(config: EncoderConfig, hint: str) -> None:
    with pytest.raises(SettingsError, match=hint):
        build_encoder(config)


def test_undisturbed_leaves_no_trace() -> None:
    encoder = build_encoder(EncoderConfig(name="resnet10", image_size=32)).train()
    encoder.network.layer1.eval()  # type: ignore[union-attr]
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    modes = [module.training for module in encoder.modules()]
    with undisturbed(encoder):
        encoder(torch.rand(2, 3, 32, 32))
        torch.rand(1)
    assert modes == [module.training for module in encoder.modules()]
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.state_dict().items())


def test_every_residual_network_has_a_shape() -> None:
    from stillhouse.networks.build import RESIDUAL
    from stillhouse.networks.resnet import RESNET_SHAPES

    assert tuple(RESNET_SHAPES) == RESIDUAL
