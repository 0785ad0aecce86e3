"""Small hierarchical transformers: attention in windows that shift, a coarser and wider map at every stage.

Letters: B images, T regions of the last map, D_l width at block l, P patch size.
Source: Liu et al. 2021 (Swin), built from timm's blocks; depths are read as in EsViT's linear probe (Li et al. 2022).
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillhouse.networks.encoder import Encoder, Features, Normalize


@dataclass(frozen=True)
class SwinShape:
    """Width and number of heads of the first stage, both doubled from stage to stage; blocks of every stage."""

    dim: int
    depths: tuple[int, ...]
    num_heads: int
    window: int = 4
    """Side in patches of the squares inside which patches attend to each other."""


SWIN_SHAPES = {
    "swin_nano": SwinShape(32, (2, 2), 2),
    "swin_micro": SwinShape(48, (2, 2, 2), 3),
    "swin_mini": SwinShape(48, (2, 2, 6, 2), 3),
}


class SwinTransformer(Encoder):
    """Windowed attention with relative positions; regions are the patches of the last map, the image vector their mean.

    Views of any size that patches divide are taken with the same weights: where windows do not tile a map, it is padded
    with zeros on the right and below, after the norm, and attention sees them, as in the official code.

    Args:
        shape: widths and depths.
        image_size: side in pixels; a stage whose map is then no larger than a window has one, which never shifts.
        patch_size: P.
        mean: colour mean to subtract.
        std: colour deviation to divide by.
    """

    network: Any

    def __init__(
        self, shape: SwinShape, image_size: int, patch_size: int, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        from timm.models.swin_transformer import SwinTransformer as TimmSwin  # timm takes half a second to import

        super().__init__()
        self.shape, self.image_size, self.patch_size = shape, image_size, patch_size
        self.normalize = Normalize(mean, std)
        self.network = TimmSwin(
            img_size=image_size,
            patch_size=patch_size,
            num_classes=0,
            embed_dim=shape.dim,
            depths=shape.depths,
            num_heads=tuple(shape.num_heads * 2**stage for stage in range(len(shape.depths))),
            window_size=shape.window,
            strict_img_size=False,
            drop_path_rate=0.0,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),  # type: ignore[arg-type]
        )
        self.block_dims = tuple(shape.dim * 2**stage for stage, depth in enumerate(shape.depths) for _ in range(depth))
        self.dim = self.block_dims[-1]

    def features(self, images: Tensor) -> Features:
        """Mean over the map after every block, through the final norm at the last stage."""
        net = self.network
        maps = net.patch_embed(self.normalize(images))
        vectors = []
        for stage in net.layers:
            maps = stage.downsample(maps)
            for block in stage.blocks:
                maps = _pass(block, maps)
                vectors.append((net.norm(maps) if stage is net.layers[-1] else maps).mean(dim=(1, 2)))
        return Features(vectors[-1], net.norm(maps).flatten(1, 2), tuple(vectors))


def _pass(block: Any, maps: Tensor) -> Tensor:
    """Maps `[B, H, W, D]` through a block of timm, padded before they are rolled.

    timm pads afterwards, so that in a shifted block patches at opposite edges may see each other.
    """
    height, width = maps.shape[1:3]
    window, shift = block.window_size[0], block.shift_size[0]
    padded = F.pad(block.norm1(maps), (0, 0, 0, -width % window, 0, -height % window))
    windows = _windows(padded.roll((-shift, -shift), (1, 2)), window)
    mask = _torn_apart(padded, window, shift) if shift else None
    seen = block.attn(windows.flatten(0, 2), mask=mask).view(windows.shape)
    seen = seen.unflatten(3, (window, window)).transpose(2, 3).flatten(3, 4).flatten(1, 2).roll((shift, shift), (1, 2))
    maps = maps + seen[:, :height, :width]
    return maps + block.mlp(block.norm2(maps))  # type: ignore[no-any-return]


def _windows(maps: Tensor, window: int) -> Tensor:
    """Maps `[B, H, W, D]` cut into windows, `[B, H / window, W / window, window ** 2, D]`."""
    rows = maps.unflatten(1, (-1, window)).unflatten(3, (-1, window))
    return rows.transpose(2, 3).flatten(3, 4)  # type: ignore[no-any-return]


def _torn_apart(maps: Tensor, window: int, shift: int) -> Tensor:
    """What is added before the softmax: -inf between patches that are neighbours only since the map was rolled.

    Returns:
        `[windows, window ** 2, window ** 2]`.
    """
    row, column = (torch.arange(side, device=maps.device) < side - shift for side in maps.shape[1:3])
    part = _windows((2 * row[:, None] + column)[None, :, :, None], window).flatten(0, 2)
    return torch.where(part == part.mT, 0.0, -torch.inf).to(maps.dtype)
