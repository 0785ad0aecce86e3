"""Vision transformers with fixed positions and a frozen patch projection.

Letters: B images, T patches (+ 1 class token), D width, P patch size.
Source: Dosovitskiy et al. 2021; positions, frozen projection and initialization of MoCo v3 (Chen, Xie, He 2021), as
SDSSL uses them.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillhouse.networks.encoder import Encoder, Features, Normalize


@dataclass(frozen=True)
class ViTShape:
    """Width, number of blocks and of attention heads."""

    dim: int
    depth: int
    num_heads: int


VIT_SHAPES = {
    "vit_nano": ViTShape(64, 2, 2),
    "vit_micro": ViTShape(96, 6, 3),
    "vit_tiny": ViTShape(192, 12, 6),
    "vit_small": ViTShape(384, 12, 12),
    "vit_base": ViTShape(768, 12, 12),
}


class VisionTransformer(Encoder):
    """Class token, pre-norm blocks, one shared final LayerNorm through which every depth is read.

    The position embedding is computed, not learnt, for whatever grid comes in, so images may have any size that the
    patch size divides. The patch projection is random and frozen; its output carries no gradient.
    """

    positions: Tensor

    def __init__(
        self, shape: ViTShape, image_size: int, patch_size: int, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        super().__init__()
        self.dim, self.block_dims, self.image_size = shape.dim, (shape.dim,) * shape.depth, image_size
        self.patch_size = patch_size
        self.normalize = Normalize(mean, std)
        self.patch_projection = nn.Conv2d(3, shape.dim, patch_size, patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, shape.dim))
        grid = image_size // patch_size
        self.register_buffer("positions", sincos_positions(grid, grid, shape.dim), persistent=False)
        self.blocks = nn.ModuleList(_Block(shape.dim, shape.num_heads) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(shape.dim, eps=1e-6)
        self._initialize()

    def features(self, images: Tensor) -> Features:
        """Class token of every block through the final norm; tokens are the normalized patches of the last block."""
        stream = self._embed(images)
        states = []
        for block in self.blocks:
            stream = block(stream)
            states.append(stream[:, 0])
        vectors = tuple(self.norm(state) for state in states)
        return Features(vectors[-1], self.norm(stream[:, 1:]), vectors)

    def forward(self, images: Tensor) -> Tensor:
        """The image vector, `[B, D]`; equal to `features(images).pooled`, without reading the other depths."""
        stream = self._embed(images)
        for block in self.blocks:
            stream = block(stream)
        return self.norm(stream[:, 0])  # type: ignore[no-any-return]

    def _embed(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            patches = self.patch_projection(self.normalize(images))
            height, width = patches.shape[-2:]
            positions = self.positions
            if height * width + 1 != len(positions) or height != width:
                positions = sincos_positions(height, width, self.dim).to(positions)
            patches = patches.flatten(2).mT + positions[1:]
        class_token = (self.class_token + positions[0]).to(patches.dtype)
        return torch.cat([class_token.expand(patches.shape[0], -1, -1), patches], dim=1)

    def _initialize(self) -> None:
        bound = math.sqrt(6.0 / (3 * self.patch_size**2 + self.dim))
        nn.init.uniform_(self.patch_projection.weight, -bound, bound)
        nn.init.zeros_(self.patch_projection.bias)  # type: ignore[arg-type]
        self.patch_projection.requires_grad_(False)
        nn.init.normal_(self.class_token, std=1e-6)
        for name, module in self.blocks.named_modules():
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
                if name.endswith("qkv"):  # three square matrices that happen to share one tensor
                    bound = math.sqrt(6.0 / (2 * self.dim))
                    nn.init.uniform_(module.weight, -bound, bound)
                else:
                    nn.init.xavier_uniform_(module.weight)


class _Block(nn.Module):
    """Attention and perceptron, each behind a LayerNorm and beside a shortcut."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_attention = nn.LayerNorm(dim, eps=1e-6)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.projection = nn.Linear(dim, dim)
        self.norm_mlp = nn.LayerNorm(dim, eps=1e-6)
        self.expand = nn.Linear(dim, 4 * dim)
        self.shrink = nn.Linear(4 * dim, dim)

    def forward(self, stream: Tensor) -> Tensor:
        stream = stream + self._attention(self.norm_attention(stream))
        mlp: Tensor = self.shrink(F.gelu(self.expand(self.norm_mlp(stream))))
        return stream + mlp

    def _attention(self, rows: Tensor) -> Tensor:
        query, key, value = self.qkv(rows).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return self.projection(attend(query, key, value).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled dot-product attention, `[..., T, D]` of three such.

    On a CPU in bfloat16 it is two plain products and a softmax, since torch's fused kernel is several times slower
    there on sequences as short as those of small images (`benchmarks/attention.py`); elsewhere it is the fused kernel.
    """
    if query.device.type == "cpu" and query.dtype == torch.bfloat16:
        scores = query @ key.mT * query.shape[-1] ** -0.5
        shares: Tensor = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
        return shares @ value
    return F.scaled_dot_product_attention(query, key, value)


def sincos_positions(height: int, width: int, dim: int) -> Tensor:
    """Fixed positions of a grid, `[1 + height * width, dim]`; row 0 belongs to the class token and is zero.

    Each quarter of the width holds the sine, then the cosine of the row, the sine, then the cosine of the column, at
    frequencies `10000 ** (-k / (dim / 4))`.
    """
    quarter = dim // 4
    frequency = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    row = torch.arange(height, dtype=torch.float64)[:, None] * frequency
    column = torch.arange(width, dtype=torch.float64)[:, None] * frequency
    row = row[:, None].expand(-1, width, -1)
    column = column[None].expand(height, -1, -1)
    grid = torch.cat([row.sin(), row.cos(), column.sin(), column.cos()], dim=-1).flatten(0, 1)
    return torch.cat([torch.zeros(1, dim, dtype=torch.float64), grid]).float()
