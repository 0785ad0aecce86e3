"""Small stores and encoders that evaluation tests read."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from stillhouse.data.sources import Rejected
from stillhouse.data.store import ImageStore
from stillhouse.networks.encoder import Encoder, Features


class ListedStore(ImageStore):
    """Images that a test has made."""

    def __init__(self, images: Tensor, labels: Tensor, classes: tuple[str, ...], bad: tuple[int, ...] = ()) -> None:
        self.images, self.labels, self.classes = images, labels, classes
        self.size, self.device = images.shape[-1], torch.device("cpu")
        self.sizes = torch.full((len(images), 2), self.size)
        self.ids = [f"image-{number}" for number in range(len(images))]
        self.stand_ins = torch.arange(len(images))
        self.bad, self.passes = bad, 0

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        return tuple(Rejected(self.ids[number], "broken") for number in self.bad)

    def gather(self, index: Tensor) -> Tensor:
        return self.images[index].permute(0, 2, 1, 3).contiguous()

    def batches(self, indices: Iterable[Tensor]) -> Iterator[Tensor]:
        self.passes += 1
        return map(self.gather, indices)

    def to(self, device: torch.device | str) -> ImageStore:
        return self


class TwoBlocks(Encoder):
    """A convolution, then a normalized layer with dropout that must be off."""

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.dim, self.block_dims, self.image_size = 12, (8, 12), image_size
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.head = nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 12), nn.Dropout(0.5))
        self.frozen = nn.BatchNorm1d(12).eval()

    def features(self, images: Tensor) -> Features:
        maps = self.stem(images)
        first = maps.mean((2, 3))
        second = self.frozen(self.head(first))
        return Features(second, maps.flatten(2).mT, (first, second))


def colored(labels: Tensor, size: int, seed: int) -> Tensor:
    """Noisy uint8 images `[N, 3, size, size]` whose brightest channel is the label."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 120, (len(labels), 3, size, size), generator=generator)
    known = labels >= 0
    images[known.nonzero().squeeze(1), labels[known] % 3] += 100
    return images.to(torch.uint8)


def make_store(
    labels: list[int],
    classes: tuple[str, ...] = ("red", "green", "blue"),
    size: int = 8,
    seed: int = 0,
    bad: tuple[int, ...] = (),
) -> ListedStore:
    """A store of images coloured by class; `bad` ones turn out unreadable."""
    truth = torch.tensor(labels)
    return ListedStore(colored(truth, size, seed), truth, classes, bad)


def make_encoder(image_size: int = 8, seed: int = 0) -> TwoBlocks:
    """An untrained encoder of two blocks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TwoBlocks(image_size)
