"""LightlySSL's documented SimCLR example on CIFAR-10 as a step to be timed (`pip install lightly`).

Its transform, projection head, loss, optimizer and data loader, float32 in torch's own layout. Encoder and batch size
are the other side's, and blur is left out as the other side leaves it out at 32 px.
"""

import io
from collections.abc import Callable, Iterator

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from stillhouse.data.sources import Source, open_source
from stillhouse.networks.encoder import Encoder

try:
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform
except ImportError as missing:
    raise SystemExit("lightly_loop.py: lightly is not installed; pip install lightly") from missing

Transform = Callable[[Image.Image], list[Tensor]]


class JpegImages(Dataset[list[Tensor]]):
    """Decodes and transforms one image at a time; the encoded bytes lie in memory."""

    def __init__(self, source: Source, count: int, transform: Transform) -> None:
        self._encoded = [source.read(position) for position in range(min(count, len(source)))]
        self._transform = transform

    def __len__(self) -> int:
        return len(self._encoded)

    def __getitem__(self, position: int) -> list[Tensor]:
        return self._transform(Image.open(io.BytesIO(self._encoded[position])).convert("RGB"))


def endless(images: JpegImages, batch_size: int) -> Iterator[list[Tensor]]:
    """Batches for ever, shuffled anew in every epoch."""
    loader = DataLoader(images, batch_size, shuffle=True, drop_last=True, num_workers=0)
    while True:
        yield from loader


def lightly_batches(data: str, size: int, images: int, batch_size: int, blur: float) -> Iterator[list[Tensor]]:
    """Two views of JPEG images by `SimCLRTransform`, at the colour strength customary for CIFAR-10."""
    transform = SimCLRTransform(input_size=size, cj_strength=0.5, gaussian_blur=blur)
    return endless(JpegImages(open_source(data), images, transform), batch_size)


def lightly_step(encoder: Encoder, batches: Iterator[list[Tensor]], device: torch.device) -> Callable[[], None]:
    """The body of the example's loop, one call per batch."""
    encoder, head = encoder.to(device), SimCLRProjectionHead(encoder.dim, encoder.dim, 128).to(device)
    criterion = NTXentLoss()
    optimizer = torch.optim.SGD([*encoder.parameters(), *head.parameters()], lr=1e-5)

    def step() -> None:
        first, second = (view.to(device) for view in next(batches))
        loss = criterion(head(encoder(first)), head(encoder(second)))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step
