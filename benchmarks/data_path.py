"""From stored images to two normalized views: the decoded cache and batched augmentation, beside JPEG and LightlySSL.

    python benchmarks/data_path.py --data URI [--out FILE]        (pip install lightly)

Both sides make the same two views (random resized crop, flip, colour jitter .4 .4 .4 .1 with p .8, grayscale .2, blur
.5, normalization) of the same images in shuffled batches and take turns. Fetching alone is compared as well: a cached
batch as floats, and JPEG images as tensors.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torchvision.transforms.functional import to_tensor

from lightly_loop import JpegImages, endless, lightly_batches
from stillhouse.data.augment import center_view
from stillhouse.data.sources import open_source
from stillhouse.data.store import DataConfig, ImageStore, open_store
from stillhouse.data.stream import ViewStream
from stillhouse.data.views import View, ViewPlan
from stillhouse.networks.encoder import Normalize
from timing import Bar, Row, Table, Times, measure, parser, prepare, ratio, report

SIDE = 32
PLAN = ViewPlan(views=(View(count=2, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, blur_kernel=9),))
PATH, FETCH = Bar(8.0, at_most=False), Bar(50.0, at_most=False)


def our_batches(store: ImageStore, batch_size: int) -> Iterator[list[Tensor]]:
    """Two normalized views of shuffled batches out of the store."""
    normalize = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    stream = ViewStream(store=store, plan=PLAN, image_size=SIDE, batch_size=batch_size, seed=0)
    return ([normalize(view) for view in batch.views] for batch in stream.batches(0))


def our_pixels(store: ImageStore, batch_size: int) -> Iterator[Tensor]:
    """Shuffled batches as floats, without any view."""
    while True:
        order = torch.randperm(len(store))[: len(store) // batch_size * batch_size].split(batch_size)
        yield from (center_view(pixels, SIDE) for pixels in store.batches(order))


def row(name: str, times: Times, pair: tuple[str, str], batch_size: int, bar: Bar) -> Row:
    """Ours over theirs, in microseconds per image."""
    ours, theirs = (times[key] for key in pair)
    faster = ratio(theirs, ours)
    return {
        "path": name,
        "stillhouse, us per image": min(ours) / batch_size * 1e6,
        "JPEG, us per image": min(theirs) / batch_size * 1e6,
        "times faster": faster,
        "bar": bar.judge(faster),
    }


def main() -> None:
    """Measure, print, and write where asked."""
    arguments = parser("Time fetching and augmenting against JPEG and LightlySSL.", rounds=12)
    arguments.add_argument("--data", required=True, help="URI of images of 32 pixels")
    arguments.add_argument("--batch", type=int, default=256)
    chosen = arguments.parse_args()
    device, count = prepare(), 4 * chosen.batch
    store = open_store(chosen.data, DataConfig(limit=count, cache="memory", workers=1), SIDE)
    if device.type == "cuda":
        store = store.to(device)
    jpeg = JpegImages(open_source(chosen.data), count, lambda image: [to_tensor(image)])
    sources: dict[str, Iterator[object]] = {
        "views": our_batches(store, chosen.batch),
        "lightly": lightly_batches(chosen.data, SIDE, count, chosen.batch, blur=0.5),
        "pixels": our_pixels(store, chosen.batch),
        "jpeg": endless(jpeg, chosen.batch),
    }
    times = measure({name: batches.__next__ for name, batches in sources.items()}, chosen.rounds, device)
    rows = [
        row("fetch and two views", times, ("views", "lightly"), chosen.batch, PATH),
        row("fetch alone", times, ("pixels", "jpeg"), chosen.batch, FETCH),
    ]
    report([Table(f"Images of {SIDE} px, batches of {chosen.batch}, no workers", rows)], device, chosen.out)


if __name__ == "__main__":
    main()
