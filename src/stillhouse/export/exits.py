"""What is exported of an encoder: chosen depths, and nothing above the deepest of them.

Letters: B images, S pixels a side, D_l width after block l.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stillhouse.networks.cut import cut
from stillhouse.networks.encoder import Encoder, undisturbed

INPUT = "images"
"""Name of the input, `[B, 3, S, S]` float32 RGB in [0, 1]."""


class Exits(nn.Module):
    """The vectors of chosen depths, each under the name `depth_l`, in ascending order.

    Args:
        encoder: whole; it is copied and cut above the deepest exit.
        exits: block numbers from 1; none means the last.

    Raises:
        SettingsError: there is no such block, or the network cannot be cut there.
    """

    def __init__(self, encoder: Encoder, exits: Sequence[int] = ()) -> None:
        super().__init__()
        self.exits = tuple(sorted(set(exits))) or (len(encoder.block_dims),)
        cut(encoder, self.exits[0])  # refuses one that is too low
        self.encoder = cut(encoder, self.exits[-1]).eval()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return tuple(map(output_name, self.exits))

    @property
    def dims(self) -> tuple[int, ...]:
        """Widths of the outputs."""
        return tuple(self.encoder.block_dims[depth - 1] for depth in self.exits)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """One `[B, D_l]` per exit, float32, of images `[B, 3, S, S]` in [0, 1]."""
        blocks = self.encoder.features(images).blocks
        return tuple(blocks[depth - 1].float() for depth in self.exits)

    def halved(self) -> "Exits":
        """A copy with weights and activations in float16; it normalizes in float32 and answers in float32."""
        half = copy.deepcopy(self)
        normalize = half.encoder.normalize
        half.encoder.half()
        half.encoder.normalize = _Halved(normalize.float())  # type: ignore[assignment]
        return half

    def traced(self) -> "torch.export.ExportedProgram":
        """The network as a graph for any number of images."""
        size = self.encoder.image_size
        example = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
        with undisturbed(self):
            return torch.export.export(self, (example,), dynamic_shapes={INPUT: {0: torch.export.Dim("batch")}})


def output_name(depth: int) -> str:
    """What the vector after a block is called in files."""
    return f"depth_{depth}"


class _Halved(nn.Module):
    def __init__(self, normalize: nn.Module) -> None:
        super().__init__()
        self.normalize = normalize

    def forward(self, images: Tensor) -> Tensor:
        normal: Tensor = self.normalize(images)
        return normal.half()
