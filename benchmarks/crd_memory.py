"""What CRD's many negatives cost: peak memory of a process that takes steps, and the time to draw the negatives.

    python benchmarks/crd_memory.py [--encoder vit_micro] [--out FILE]

50,000 images of 100 classes, 16,384 negatives, 256 images of 32 px a step, on a CPU. Every form steps in a process of
its own, whose peak is what the system reports at its end (`resource.getrusage`); `bare` is the encoder's own step.
"""

import multiprocessing
import resource
import statistics
import sys
from dataclasses import dataclass

import torch

from stillhouse.data.candidates import class_candidates, uniform_candidates
from stillhouse.data.labels import Labels
from stillhouse.data.stream import Batch
from stillhouse.methods.method import Method
from stillhouse.methods.table import find_method
from stillhouse.networks.build import EncoderConfig, build_encoder
from stillhouse.networks.encoder import Encoder
from stillhouse.networks.teacher import FrozenTeacher
from stillhouse.training.optimizers import make_optimizer
from timing import Bar, Clock, Row, Table, parser, prepare, report

NUM_IMAGES, NUM_CLASSES, NUM_NEGATIVES, BATCH_SIZE, IMAGE_SIZE = 50_000, 100, 16_384, 256, 32
STEPS, BAR = 3, Bar(4.0)
KIB_IN_GIB = 1024**2
FORMS = ("bare", "crd", "crd-supervised")


@dataclass(frozen=True)
class Cost:
    """Of one form."""

    peak: float
    """Largest resident memory of its process, GiB."""
    seconds: float
    """Median of its steps, CPU seconds."""


def steps_of(form: str, encoder_name: str) -> Cost:
    """Take a few steps; meant for a fresh process."""
    device = prepare()
    encoder = built(encoder_name, 0)
    method = None if form == "bare" else made(form, encoder)
    network = method or encoder
    optimizer = make_optimizer("sgd", network, weight_decay=5e-4, momentum=0.9, decay_all=True)
    clock, seconds = Clock(device), []
    for number in range(STEPS):
        generator = torch.Generator().manual_seed(number)
        images = torch.rand(BATCH_SIZE, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator)
        index = torch.randperm(NUM_IMAGES, generator=generator)[:BATCH_SIZE]
        clock.start()
        if method is None:
            loss = encoder(images).square().mean()
        else:
            loss = torch.stack(list(method(Batch((images,), index), 0.5).values())).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if method is not None:
            method.after_step(0.5)
        seconds.append(clock.stop())
    return Cost(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB_IN_GIB, statistics.median(seconds))


def built(name: str, seed: int) -> Encoder:
    """An encoder for these images."""
    return build_encoder(EncoderConfig(name=name, image_size=IMAGE_SIZE).fit(IMAGE_SIZE), seed)


def labels() -> Labels:
    """A random class for every image."""
    numbers = torch.randint(NUM_CLASSES, (NUM_IMAGES,), generator=torch.Generator().manual_seed(0))
    return Labels(numbers, tuple(map(str, range(NUM_CLASSES))))


def made(form: str, encoder: Encoder) -> Method:
    """The method, taught by a network like the student's."""
    entry = find_method(form)
    config = entry.config(num_images=NUM_IMAGES, num_negatives=NUM_NEGATIVES)
    known = [labels()] if "labels" in entry.companions else []
    return entry.method(config, encoder, [FrozenTeacher(encoder)], *known)


def drawing_seconds(form: str, rounds: int, clock: Clock) -> float:
    """Median time to draw the negatives of a step, after one that does not count."""
    groups, index, times = labels().of, torch.arange(BATCH_SIZE), []
    for step in range(rounds + 1):
        clock.start()
        if form == "crd":
            uniform_candidates(index, NUM_IMAGES, NUM_NEGATIVES, step)
        else:
            class_candidates(index, groups, NUM_NEGATIVES, step, "exact")
        times.append(clock.stop())
    return statistics.median(times[1:])


def main() -> None:
    """Measure, print, and write where asked."""
    options = parser("Peak memory and drawing time of CRD.", rounds=7)
    options.add_argument("--encoder", default="vit_micro", help="student and teacher (%(default)s)")
    arguments = options.parse_args()
    if not sys.platform.startswith("linux"):
        sys.exit("crd_memory.py: the unit of a process's peak memory is only known on Linux; run it there")
    device = prepare()
    clock, rows = Clock(device), list[Row]()
    bare = 0.0
    for form in FORMS:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            cost = pool.apply(steps_of, (form, arguments.encoder))
        bare = bare or cost.peak
        row: Row = {
            "form": form,
            "peak, GiB": cost.peak,
            "bar": BAR.judge(cost.peak),
            "above bare, GiB": cost.peak - bare,
            "step, s": cost.seconds,
            "drawing, ms": "-",
        }
        if form != "bare":
            row["drawing, ms"] = 1e3 * drawing_seconds(form, arguments.rounds, clock)
        rows.append(row)
    title = f"CRD: {arguments.encoder}, B = {BATCH_SIZE}, K = {NUM_NEGATIVES}, N = {NUM_IMAGES}"
    report([Table(title, rows)], device, arguments.out)


if __name__ == "__main__":
    main()
