"""How long two SimCLR views of a 32-pixel image take on one core, beside what other libraries need.

    python benchmarks/augmentation.py --data URI [--out FILE]

Every pipeline makes the same two views (random resized crop, flip, colour jitter .4 .4 .4 .1 with p .8, grayscale .2,
blur .5, normalization) of the same images. They take turns in one process on one thread; what counts is CPU time, and
a ratio is the median of the ratios within each round. Peers that are not installed are left out; they are had by
`pip install lightly kornia`.
"""

import importlib.util
import statistics

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from stillhouse.data.augment import augment
from stillhouse.data.store import DataConfig, open_store
from stillhouse.data.views import View, ViewPlan
from timing import Bar, Row, Table, Times, Work, measure, parser, prepare, ratio, report

SIDE = 32
MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
PLAN = ViewPlan(views=(View(count=2, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, blur_kernel=9),))
OURS = "stillhouse, batched"
BARS = {"lightly SimCLRTransform, PIL": 6.5, "kornia, batched": 1.7}


def ours(pixels: Tensor) -> Work:
    """Batched views from the image store's layout `[B, S, 3, S]`."""
    mean, deviation = (torch.tensor(value, device=pixels.device).view(3, 1, 1) for value in (MEAN, DEVIATION))
    sizes, index = torch.full((len(pixels), 2), SIDE), torch.arange(len(pixels))
    epochs = iter(range(1_000_000))
    return lambda: [(v - mean) / deviation for v in augment(pixels, sizes, index, PLAN, SIDE, 0, next(epochs))]


def lightly(pixels: Tensor) -> Work:
    """One PIL image at a time, as its data loaders do."""
    from lightly.transforms import SimCLRTransform

    transform = SimCLRTransform(input_size=SIDE, cj_strength=0.5)
    images = [Image.fromarray(image.permute(0, 2, 1).numpy()) for image in pixels.contiguous()]
    return lambda: [torch.stack(view) for view in zip(*map(transform, images), strict=True)]


def torchvision(pixels: Tensor) -> Work:
    """One uint8 tensor at a time by torchvision's second transforms."""
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(SIDE, interpolation=v2.InterpolationMode.BICUBIC, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
            v2.RandomGrayscale(0.2),
            v2.RandomApply([v2.GaussianBlur(9, (0.1, 2.0))], 0.5),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, DEVIATION),
        ]
    )
    images = list(pixels.transpose(1, 2).contiguous())
    return lambda: [torch.stack([transform(image) for image in images]) for _ in range(2)]


def kornia(pixels: Tensor) -> Work:
    """Whole float batches, with parameters of their own for each image."""
    from kornia import augmentation

    transform = augmentation.AugmentationSequential(
        augmentation.RandomResizedCrop((SIDE, SIDE), scale=(0.08, 1.0), resample="bilinear", cropping_mode="slice"),
        augmentation.RandomHorizontalFlip(p=0.5),
        augmentation.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
        augmentation.RandomGrayscale(p=0.2),
        augmentation.RandomGaussianBlur((9, 9), (0.1, 2.0), p=0.5),
        augmentation.Normalize(torch.tensor(MEAN), torch.tensor(DEVIATION)),
        data_keys=["input"],
    )
    return lambda: [transform(pixels.transpose(1, 2).float() / 255) for _ in range(2)]


def table(times: Times, batch: int) -> Table:
    """The measurements in microseconds per image."""
    own, rows = times[OURS], list[Row]()
    for name, seconds in times.items():
        faster = ratio(seconds, own)
        row: Row = {"pipeline": name, "us per image": statistics.median(seconds) / batch * 1e6}
        row["range"] = f"{min(seconds) / batch * 1e6:.0f}-{max(seconds) / batch * 1e6:.0f}"
        row |= {"stillhouse is faster by": faster}
        row["bar"] = Bar(BARS[name], at_most=False).judge(faster) if name in BARS else "-"
        rows.append(row)
    return Table(f"Two views at {SIDE} px, batch {batch}", rows)


def main() -> None:
    """Measure, print, and write where asked."""
    arguments = parser("Time two SimCLR views at 32 pixels against other libraries.", rounds=15)
    arguments.add_argument("--data", required=True, help="URI of the images; 256 of them are used")
    arguments.add_argument("--batch", type=int, default=256)
    chosen = arguments.parse_args()
    device = prepare()
    store = open_store(chosen.data, DataConfig(limit=chosen.batch, cache="memory", workers=1), SIDE)
    pixels = store.gather(torch.arange(len(store)))
    pipelines = {OURS: ours(pixels.to(device)), "torchvision v2, tensors": torchvision(pixels)}
    if importlib.util.find_spec("lightly"):
        pipelines["lightly SimCLRTransform, PIL"] = lightly(pixels)
    if importlib.util.find_spec("kornia"):
        pipelines["kornia, batched"] = kornia(pixels.to(device))
    report([table(measure(pipelines, chosen.rounds, device), len(pixels))], device, chosen.out)


if __name__ == "__main__":
    main()
