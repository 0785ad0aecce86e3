"""Encoders by name."""

import difflib
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from annotated_types import Gt, Interval, Len

from stillhouse.errors import SettingsError
from stillhouse.networks.convolutional import CNN_WIDTHS, ConvolutionalNetwork
from stillhouse.networks.encoder import Encoder
from stillhouse.networks.modality import Modality
from stillhouse.networks.swin import SWIN_SHAPES, SwinTransformer
from stillhouse.networks.vit import VIT_SHAPES, VisionTransformer

RESIDUAL = ("resnet10", "resnet18", "resnet34", "resnet50")

Channels = Annotated[tuple[float, ...], Len(3, 3)]


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Which network to train."""

    name: str = "auto"
    """A vision transformer (`vit_nano` to `vit_base`), a hierarchical one (`swin_nano` to `swin_mini`), a residual
    network (`resnet10` to `resnet50`), a plain convolutional one (`cnn_nano`, `cnn_micro`) or `timm:NAME`; `auto`
    follows the image size: `vit_micro` up to 48 px, else `vit_tiny`."""
    image_size: Annotated[int, Interval(ge=0, le=4096)] = 0
    """Side in pixels; 0 follows the images."""
    patch_size: Annotated[int, Interval(ge=0, le=4096)] = 0
    """Side of a transformer's patch in pixels; 0 follows the image size: 4 up to 48 px, 8 up to 112, else 16; of a
    hierarchical one 2 up to 64 px, else 4."""
    stem: Literal["auto", "cifar", "compact", "imagenet"] = "auto"
    """First layers of a residual network; `auto` is `cifar` up to 48 px, `compact` up to 112, else `imagenet`."""
    mean: Channels = (0.485, 0.456, 0.406)
    """Colour mean that the encoder subtracts (its own normalization; a timm model brings its own)."""
    std: Annotated[tuple[Annotated[float, Gt(0)], ...], Len(3, 3)] = (0.229, 0.224, 0.225)
    """Colour deviation that the encoder divides by."""
    modality: Modality = "rgb"
    """What the network sees of an image: all of it, only its brightness (`luminance`) or only its colour
    (`chrominance`). A part of its normalization, so images stay RGB for whoever uses it."""

    def fit(self, image_size: int) -> "EncoderConfig":
        """The same choice with everything that follows from the images written out.

        Args:
            image_size: side in pixels that suits the images.

        Raises:
            SettingsError: the name is unknown, or the patches do not tile the image.
        """
        check_name(self.name)
        size = self.image_size or image_size
        small, medium = size <= 48, size <= 112
        name = self.name if self.name != "auto" else "vit_micro" if small else "vit_tiny"
        stem = self.stem
        if stem == "auto" and name in RESIDUAL:
            stem = "cifar" if small else "compact" if medium else "imagenet"
        patch = self.patch_size
        if name not in RESIDUAL:
            stem = "auto"  # as good as absent: so a recipe's stem does no harm to a network without one
        if name in VIT_SHAPES:
            patch = patch or (4 if small else 8 if medium else 16)
        elif name in SWIN_SHAPES:
            patch = patch or (2 if size <= 64 else 4)
        else:
            patch = 0
        if patch and size % patch:
            raise SettingsError(
                f"encoder.patch_size: {patch} does not divide the image size {size}; "
                f"set encoder.image_size={size // patch * patch or patch} or another patch size"
            )
        return replace(self, name=name, image_size=size, patch_size=patch, stem=stem)


def check_name(name: str) -> None:
    """Raise `SettingsError`, with the nearest name, unless `name` is one that `build_encoder` knows."""
    known = ["auto", *VIT_SHAPES, *SWIN_SHAPES, *RESIDUAL, *CNN_WIDTHS]
    if name in known or name.startswith("timm:"):
        return
    near = difflib.get_close_matches(name, known, 1, 0.0)[0]
    raise SettingsError(f"encoder.name: {name!r} is unknown; did you mean {near}? ({', '.join(known)} or timm:NAME)")


def build_encoder(config: EncoderConfig, seed: int = 0) -> Encoder:
    """A freshly initialized encoder; the same numbers for the same seed, and the caller's random state untouched.

    Args:
        config: the choice; what follows from the images must be written out (`EncoderConfig.fit`).
        seed: of the initialization.

    Raises:
        SettingsError: the name is unknown or the network refuses the size.
    """
    config = config.fit(config.image_size or 224)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = _build(config)
    encoder.normalize.modality = config.modality
    return encoder


def _build(config: EncoderConfig) -> Encoder:
    if config.name.startswith("timm:"):
        from stillhouse.networks.timm_encoder import TimmEncoder  # a thousand models take half a second to import

        return TimmEncoder(config.name.removeprefix("timm:"), config.image_size)
    if config.name in VIT_SHAPES:
        shape = VIT_SHAPES[config.name]
        return VisionTransformer(shape, config.image_size, config.patch_size, config.mean, config.std)
    if config.name in SWIN_SHAPES:
        windows = SWIN_SHAPES[config.name]
        return SwinTransformer(windows, config.image_size, config.patch_size, config.mean, config.std)
    if config.name in CNN_WIDTHS:
        return ConvolutionalNetwork(CNN_WIDTHS[config.name], config.image_size, config.mean, config.std)
    from stillhouse.networks.resnet import ResNet  # as does torchvision

    assert config.stem != "auto"
    return ResNet(config.name, config.image_size, config.stem, config.mean, config.std)
