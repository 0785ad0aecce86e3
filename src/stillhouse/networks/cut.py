"""An encoder without its upper blocks: smaller and faster, with the same vectors at the depths that are left."""

import copy

from torch import nn

from stillhouse.errors import SettingsError
from stillhouse.networks.encoder import Encoder
from stillhouse.networks.resnet import ResNet
from stillhouse.networks.swin import SwinTransformer
from stillhouse.networks.timm_encoder import TimmEncoder
from stillhouse.networks.vit import VisionTransformer


def cut(encoder: Encoder, depth: int) -> Encoder:
    """A copy that ends after a block; its `blocks` are the first ones of `encoder`, and the image vector their last.

    Args:
        encoder: left as it is.
        depth: blocks that are kept, from 1 to all of them.

    Raises:
        SettingsError: there is no such block, or the network cannot be cut.
    """
    count = len(encoder.block_dims)
    if not 1 <= depth <= count:
        raise SettingsError(f"exit {depth}: the encoder has {count} blocks; choose from 1 to {count}")
    kept = copy.deepcopy(encoder)
    if depth == count:
        return kept
    match kept:
        case VisionTransformer():
            kept.blocks = kept.blocks[:depth]
        case ResNet():
            for number in range(depth + 1, count + 1):
                setattr(kept.network, f"layer{number}", nn.Identity())
            kept.depth = depth
        case SwinTransformer():
            _cut_swin(kept, depth)
        case TimmEncoder():
            kept.cut(depth)
        case _:
            raise SettingsError(f"exit {depth}: a {type(encoder).__name__} cannot be cut; export its last block")
    kept.block_dims = encoder.block_dims[:depth]
    kept.dim = kept.block_dims[-1]
    return kept


def _cut_swin(encoder: SwinTransformer, depth: int) -> None:
    """Keep the stages up to the block, and its own up to it; the final norm belongs to the last stage alone."""
    layers = encoder.network.layers
    stage = 0
    while depth > len(layers[stage].blocks):
        depth -= len(layers[stage].blocks)
        stage += 1
    if stage < len(layers) - 1:
        encoder.network.norm = nn.Identity()
    encoder.network.layers = layers[: stage + 1]
    layers[stage].blocks = layers[stage].blocks[:depth]
