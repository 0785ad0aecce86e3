"""The promise of an encoder: images in, one vector per image and per depth out."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn

from stillhouse.networks.modality import Modality, present


@dataclass(frozen=True)
class Features:
    """What one pass through an encoder yields.

    Letters: B images, T regions, D width, D_l width after block l.
    """

    pooled: Tensor
    """The image vector, `[B, D]`."""
    tokens: Tensor
    """Region vectors of the last block, `[B, T, D]`."""
    blocks: tuple[Tensor, ...]
    """The image vector each block would give if it were the last, one `[B, D_l]` per block; the last is `pooled`."""


class Encoder(nn.Module, ABC):
    """A network from images to vectors, readable at every depth.

    Images are `[B, 3, H, W]` float in [0, 1]; normalization is the encoder's own.
    """

    normalize: "Normalize"
    dim: int
    block_dims: tuple[int, ...]
    image_size: int

    @abstractmethod
    def features(self, images: Tensor) -> Features:
        """Vectors of all depths from one pass."""

    def forward(self, images: Tensor) -> Tensor:
        """The image vector, `[B, D]`."""
        return self.features(images).pooled


class Normalize(nn.Module):
    """Subtract the mean and divide by the deviation of each colour channel; both travel with the weights.

    What the network sees of the colours comes first.
    """

    mean: Tensor
    std: Tensor
    modality: Modality = "rgb"

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Normalize `[B, 3, H, W]` images in [0, 1]."""
        return (present(images, self.modality) - self.mean) / self.std


def joined_by_size(views: Iterable[Tensor]) -> list[Tensor]:
    """Views `[B, 3, s, s]` in batches that can pass a network at once: neighbours of one size, one below the other."""
    return [torch.cat(list(same)) for _, same in groupby(views, lambda view: view.shape)]


@contextmanager
def undisturbed(encoder: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradient inside; afterwards every module's mode and the random state are as before."""
    modes = [(module, module.training) for module in encoder.modules()]
    device = device_of(encoder)
    try:
        encoder.eval()
        with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def num_regions(encoder: Encoder) -> int:
    """Region vectors that it yields for an image of its own size."""
    with undisturbed(encoder):
        blank = torch.zeros(1, 3, encoder.image_size, encoder.image_size, device=device_of(encoder))
        return encoder.features(blank).tokens.shape[1]


def device_of(encoder: nn.Module) -> torch.device:
    """Where the weights lie; the CPU for an encoder without any."""
    for tensor in (*encoder.parameters(), *encoder.buffers()):
        return tensor.device
    return torch.device("cpu")
