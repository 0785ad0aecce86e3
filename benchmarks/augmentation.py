"""How long two SimCLR views of a 32-pixel image take on one core, beside what other libraries need.

    python benchmarks/augmentation.py --data URI [--out FILE]

Every pipeline makes the same two views (random resized crop, flip, colour jitter .4 .4 .4 .1 with p .8, grayscale .2,
blur .5, normalization) of the same images. They take turns in one process on one thread; what counts is CPU time, and
a ratio is the median of the ratios within each round. Peers that are not installed are left out; they are had by
`pip install lightly kornia`.
"""

import argparse
import datetime as dt
import importlib.util
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from stillhouse.data.augment import augment
from stillhouse.data.store import DataConfig, open_store
from stillhouse.data.views import View, ViewPlan

SIDE = 32
MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
PLAN = ViewPlan(views=(View(count=2, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, blur_kernel=9),))
BARS = {"lightly SimCLRTransform, PIL": 6.5, "kornia, batched": 1.7}
Pipeline = Callable[[], object]


def ours(pixels: Tensor) -> Pipeline:
    """Batched views from the image store's layout `[B, S, 3, S]`."""
    mean, deviation = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(DEVIATION).view(3, 1, 1)
    sizes, index = torch.full((len(pixels), 2), SIDE), torch.arange(len(pixels))
    epochs = iter(range(1_000_000))
    return lambda: [(v - mean) / deviation for v in augment(pixels, sizes, index, PLAN, SIDE, 0, next(epochs))]


def lightly(pixels: Tensor) -> Pipeline:
    """One PIL image at a time, as its data loaders do."""
    from lightly.transforms import SimCLRTransform

    transform = SimCLRTransform(input_size=SIDE, cj_strength=0.5)
    images = [Image.fromarray(image.permute(0, 2, 1).numpy()) for image in pixels.contiguous()]
    return lambda: [torch.stack(view) for view in zip(*map(transform, images), strict=True)]


def torchvision(pixels: Tensor) -> Pipeline:
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


def kornia(pixels: Tensor) -> Pipeline:
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


def measure(pipelines: dict[str, Pipeline], rounds: int, images: int) -> dict[str, list[float]]:
    """CPU microseconds per image of each pipeline in each round, after one round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in pipelines}
    for number in range(rounds + 1):
        for name, pipeline in pipelines.items():
            start = time.process_time()
            pipeline()
            if number:
                times[name].append((time.process_time() - start) / images * 1e6)
    return times


def table(times: dict[str, list[float]], batch: int) -> str:
    """The measurements as a Markdown table with hardware, versions and date."""
    own = times["stillhouse, batched"]
    lines = [
        f"Two views at {SIDE} px, batch {batch}, one thread.",
        f"{dt.date.today()}, {processor()}, torch {torch.__version__}.",
        "",
        "| pipeline | CPU us per image | range | stillhouse is faster by | bar |",
        "|---|---|---|---|---|",
    ]
    for name, values in times.items():
        ratio = statistics.median(value / mine for value, mine in zip(values, own, strict=True))
        bar = f">= {BARS[name]}" if name in BARS else "-"
        middle, low, high = statistics.median(values), min(values), max(values)
        lines.append(f"| {name} | {middle:.0f} | {low:.0f}-{high:.0f} | {ratio:.1f} | {bar} |")
    return "\n".join(lines) + "\n"


def processor() -> str:
    """Name of the processor and number of its cores that this machine shows."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description="Time two SimCLR views at 32 pixels against other libraries.")
    parser.add_argument("--data", required=True, help="URI of the images; 256 of them are used")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=256)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of the peers
    store = open_store(arguments.data, DataConfig(limit=arguments.batch, cache="memory", workers=1), SIDE)
    pixels = store.gather(torch.arange(len(store)))
    pipelines = {"stillhouse, batched": ours(pixels), "torchvision v2, tensors": torchvision(pixels)}
    if importlib.util.find_spec("lightly"):
        pipelines["lightly SimCLRTransform, PIL"] = lightly(pixels)
    if importlib.util.find_spec("kornia"):
        pipelines["kornia, batched"] = kornia(pixels)
    text = table(measure(pipelines, arguments.rounds, len(pixels)), len(pixels))
    print(text, end="")
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
