"""timm: a folder that `timm.create_model("local-dir:...")` loads, with the names that timm's own networks have.

timm normalizes outside of its networks, so mean and deviation stand in `pretrained_cfg`.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from stillhouse.errors import RunError, SettingsError, first_line
from stillhouse.export.exits import Exits
from stillhouse.files import write_atomically
from stillhouse.networks.resnet import RESNET_SHAPES, ResNet
from stillhouse.networks.swin import SwinTransformer
from stillhouse.networks.timm_encoder import TimmEncoder
from stillhouse.networks.vit import VisionTransformer

FILE, CONFIG = "model.safetensors", "config.json"
ELSEWHERE = "choose --to onnx or torch"
VIT_PARTS = {
    "norm_attention": "norm1",
    "qkv": "attn.qkv",
    "projection": "attn.proj",
    "norm_mlp": "norm2",
    "expand": "mlp.fc1",
    "shrink": "mlp.fc2",
}
"""Names of a block's parts here and in timm."""


@dataclass(frozen=True)
class TimmForm:
    """An encoder in timm's words."""

    architecture: str
    arguments: dict[str, Any]
    """Of `timm.create_model`, as plain values."""
    weights: dict[str, Tensor]
    code: str = ""
    """More arguments of `timm.create_model`, which only Python can express."""
    traits: dict[str, Any] = field(default_factory=dict)
    """More of `pretrained_cfg`."""


def write_timm(network: Exits, name: str, depth_of_whole: int, folder: Path) -> str:
    """Write weights and config.json.

    Args:
        network: with one exit.
        name: of the encoder, as in its settings.
        depth_of_whole: blocks of the encoder before it was cut.
        folder: to write into.

    Returns:
        What loads it, as a line of Python in which FOLDER is the folder.

    Raises:
        SettingsError: timm has no network like this one; says which format has.
        RunError: the disk refuses.
    """
    form = in_timms_words(network, name, depth_of_whole)
    encoder = network.encoder
    mean, std = (tensor.flatten().tolist() for tensor in (encoder.normalize.mean, encoder.normalize.std))
    size = encoder.image_size
    config = {
        "architecture": form.architecture,
        "num_classes": 0,
        "num_features": encoder.dim,
        "model_args": form.arguments,
        "pretrained_cfg": {
            "input_size": [3, size, size],
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "mean": mean,
            "std": std,
            "num_classes": 0,
            **form.traits,
        },
    }
    packed = save({key: tensor.detach().contiguous().clone() for key, tensor in form.weights.items()}, {"format": "pt"})
    write_atomically(folder / FILE, packed)
    write_atomically(folder / CONFIG, json.dumps(config, indent=2) + "\n")
    return f'timm.create_model("local-dir:FOLDER", pretrained=True{form.code}).eval()'


def open_timm(folder: Path) -> tuple[Any, tuple[tuple[float, ...], tuple[float, ...]]]:
    """The network as timm loads it; and the mean and the deviation of its configuration.

    Raises:
        RunError: a file is missing or damaged.
    """
    import timm

    try:
        config = json.loads((folder / CONFIG).read_text())
        more = {"norm_layer": _fine_norm()} if config["architecture"].startswith("swin_") else {}
        model = timm.create_model(f"local-dir:{folder}", pretrained=True, **more).eval()
        colours = config["pretrained_cfg"]
        return model, (tuple(colours["mean"]), tuple(colours["std"]))
    except Exception as error:  # of JSON, of safetensors, of any network's constructor
        told = first_line(error)
        raise RunError(f"{folder}: not a folder that timm can load ({told}); export it again") from error


def in_timms_words(network: Exits, name: str, depth_of_whole: int) -> TimmForm:
    """Architecture, arguments and weights under timm's names; `SettingsError` where timm has no such network."""
    if len(network.exits) > 1:
        raise SettingsError(f"exit: a timm network has one output; name one exit, or {ELSEWHERE}")
    encoder = network.encoder
    if encoder.normalize.modality != "rgb":
        raise SettingsError(f"to: timm cannot show a network only the {encoder.normalize.modality}; {ELSEWHERE}")
    whole = network.exits[0] == depth_of_whole
    match encoder:
        case VisionTransformer():
            return _vit(encoder)
        case SwinTransformer():
            return _swin(encoder, whole)
        case ResNet() if whole:
            return _resnet(encoder, name)
        case TimmEncoder() if whole:
            architecture, _, tag = encoder.name.partition(".")
            return TimmForm(architecture, encoder.arguments, encoder.network.state_dict(), traits={"tag": tag})
    raise SettingsError(f"exit: timm cannot end {name} before its last depth; leave out --exit, or {ELSEWHERE}")


def _vit(encoder: VisionTransformer) -> TimmForm:
    weights = {
        "cls_token": encoder.class_token,
        "pos_embed": encoder.positions[None],
        **{f"patch_embed.proj.{key}": tensor for key, tensor in encoder.patch_projection.state_dict().items()},
        **{f"norm.{key}": tensor for key, tensor in encoder.norm.state_dict().items()},
    }
    for key, tensor in encoder.blocks.state_dict().items():
        block, part, kind = key.split(".")
        weights[f"blocks.{block}.{VIT_PARTS[part]}.{kind}"] = tensor
    arguments = {
        "img_size": encoder.image_size,
        "patch_size": encoder.patch_size,
        "embed_dim": encoder.dim,
        "depth": len(encoder.blocks),
        "num_heads": encoder.blocks[0].num_heads,
        "num_classes": 0,
    }
    traits = {"fixed_input_size": True, "first_conv": "patch_embed.proj", "classifier": "head"}
    return TimmForm("vit_tiny_patch16_224", arguments, weights, traits=traits)


def _swin(encoder: SwinTransformer, whole: bool) -> TimmForm:
    shape, net = encoder.shape, encoder.network
    if not whole and len(net.layers) < len(shape.depths):
        raise SettingsError(
            f"exit: timm normalizes after the last stage of a Swin, and this exit is before it; {ELSEWHERE}"
        )
    arguments = {
        "img_size": encoder.image_size,
        "patch_size": encoder.patch_size,
        "embed_dim": shape.dim,
        "depths": [len(stage.blocks) for stage in net.layers],
        "num_heads": [shape.num_heads * 2**stage for stage in range(len(shape.depths))],
        "window_size": shape.window,
        "strict_img_size": False,
        "num_classes": 0,
    }
    code = ", norm_layer=functools.partial(torch.nn.LayerNorm, eps=1e-6)"
    return TimmForm("swin_tiny_patch4_window7_224", arguments, net.state_dict(), code)


def _resnet(encoder: ResNet, name: str) -> TimmForm:
    if encoder.network.conv1.kernel_size != (7, 7):
        raise SettingsError(
            f"to: timm's residual networks begin with a 7x7 convolution and pooling, this {name} with 3x3; {ELSEWHERE}"
        )
    layers = RESNET_SHAPES[name][1]
    known = "resnet18" if name == "resnet10" else name
    traits = {"first_conv": "conv1", "classifier": "fc"}
    return TimmForm(known, {"layers": layers, "num_classes": 0}, encoder.network.state_dict(), traits=traits)


def _fine_norm() -> Any:
    import functools

    from torch import nn

    return functools.partial(nn.LayerNorm, eps=1e-6)
