"""Small hierarchical transformers: attention in windows that shift, a coarser and wider map at every stage.

Letters: B images, T regions of the last map, D_l width at block l, P patch size.
Source: Liu et al. 2021 (Swin), built from timm's blocks; depths are read as in EsViT's linear probe (Li et al. 2022).
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from stillhouse.networks.encoder import Encoder, Features, Normalize


@dataclass(frozen=True)
class SwinShape:
    """Width and number of heads of the first stage, both doubled from stage to stage; blocks of every stage."""

    dim: int
    depths: tuple[int, ...]
    num_heads: int
    window: int = 4
    """Side in patches of the squares inside which patches attend to each other."""

    @property
    def step(self) -> int:
        """Side in patches that windows tile at every stage; all its multiples are, too."""
        return int(self.window * 2 ** (len(self.depths) - 1))

    def sides(self, patches: int) -> list[int]:
        """Side of the map at every stage, for images of `patches` patches a side; odd ones are filled up."""
        sides = [patches]
        while len(sides) < len(self.depths):
            sides.append(-(-sides[-1] // 2))
        return sides

    def takes(self, patches: int) -> bool:
        """Whether windows tile the map of every stage, or copies of the map tile the window."""
        return all(side % self.window == 0 or self.window % side == 0 for side in self.sides(patches))


SWIN_SHAPES = {
    "swin_nano": SwinShape(32, (2, 2), 2),
    "swin_micro": SwinShape(48, (2, 2, 2), 3),
    "swin_mini": SwinShape(48, (2, 2, 6, 2), 3),
}


class SwinTransformer(Encoder):
    """Windowed attention with relative positions; regions are the patches of the last map, the image vector their mean.

    Smaller views than `image_size` are taken with the same weights: where a map does not fill its window, it is padded
    with zeros after the norm, which attention sees, as in the official code.

    Args:
        shape: widths and depths.
        image_size: side in pixels; in patches, one that the shape `takes`.
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
        """Mean over the map after every block, through the final norm at the last stage.

        Raises:
            ValueError: windows do not tile the map of a stage.
        """
        self._check(images)
        net = self.network
        maps = net.patch_embed(self.normalize(images))
        vectors = []
        for stage in net.layers:
            maps = stage.downsample(maps)
            for block in stage.blocks:
                maps = block(maps)
                vectors.append((net.norm(maps) if stage is net.layers[-1] else maps).mean(dim=(1, 2)))
        tokens = net.norm(maps).flatten(1, 2)
        return Features(vectors[-1], tokens, tuple(vectors))

    def _check(self, images: Tensor) -> None:
        """Shifted windows that hang over the edge would let opposite edges see each other: timm pads after it rolls."""
        for side in images.shape[2:]:
            if side % self.patch_size or not self.shape.takes(side // self.patch_size):
                raise ValueError(
                    f"maps of {self.shape.sides(side // self.patch_size)} patches a side are not tiled by windows of "
                    f"{self.shape.window}"
                )
