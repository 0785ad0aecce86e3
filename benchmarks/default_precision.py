"""Whether the number format and memory layout that training chooses are the fastest of the four there are.

    python benchmarks/default_precision.py [--out FILE]

One encoder step (forward, backward, fused AdamW) in float32 and bfloat16 autocast, contiguous and channels-last, taking
turns; the rule of `stillhouse.training.precision` has to come within 5 % of the best.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch

from stillhouse.networks.build import EncoderConfig, build_encoder
from stillhouse.training.optimizers import make_optimizer, set_learning_rate
from stillhouse.training.precision import (
    MemoryFormat,
    Precision,
    autocast,
    choose_memory_format,
    choose_precision,
    torch_memory_format,
)
from timing import Bar, Row, Table, measure, parser, prepare, ratio, report

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
FORMATS: tuple[MemoryFormat, ...] = ("contiguous", "channels_last")
BAR = Bar(1.05)


@dataclass(frozen=True)
class Case:
    """An encoder and its batch size on a CPU and on a GPU."""

    encoder: EncoderConfig
    batch_size: int
    large_batch_size: int


CASES = (
    Case(EncoderConfig(name="resnet18", image_size=32), 32, 1024),
    Case(EncoderConfig(name="timm:mobilenetv3_small_100", image_size=224), 16, 512),
    Case(EncoderConfig(name="vit_tiny", image_size=32, patch_size=4), 32, 1024),
    Case(EncoderConfig(name="vit_nano", image_size=32, patch_size=8), 256, 4096),
)


def step_of(
    config: EncoderConfig, batch_size: int, precision: Precision, layout: MemoryFormat, device: torch.device
) -> Callable[[], None]:
    """One step of a fresh encoder on random images."""
    chosen = torch_memory_format(layout)
    encoder = build_encoder(config).to(device, memory_format=chosen)  # type: ignore[call-overload]
    images = torch.rand(batch_size, 3, config.image_size, config.image_size, device=device)
    images = images.contiguous(memory_format=chosen)
    optimizer = make_optimizer("adamw", encoder, weight_decay=0.1, momentum=0.9, decay_all=False)
    set_learning_rate(optimizer, 1e-5)

    def step() -> None:
        with autocast(precision, device):
            loss = encoder(images).float().square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def compare(case: Case, rounds: int, device: torch.device) -> Row:
    """All four ways for one encoder."""
    network = build_encoder(case.encoder)
    rule = f"{choose_precision(network, device)}, {choose_memory_format(network)}"
    batch_size = case.large_batch_size if device.type == "cuda" else case.batch_size
    works = {
        f"{precision}, {layout}": step_of(case.encoder, batch_size, precision, layout, device)
        for precision, layout in itertools.product(PRECISIONS, FORMATS)
    }
    times = measure(works, rounds, device)
    best = max(works, key=lambda name: ratio(times[rule], times[name]))
    behind = ratio(times[rule], times[best])
    speeds: Row = {f"{name}, images/s": batch_size / min(seconds) for name, seconds in times.items()}
    return {
        "encoder": case.encoder.name,
        "B": batch_size,
        **speeds,
        "rule": rule,
        "best": best,
        "rule / best": behind,
        "bar": BAR.judge(behind),
    }


def main() -> None:
    """Measure, print, and write where asked."""
    arguments = parser("Time the chosen precision and layout against all others.", rounds=6).parse_args()
    device = prepare()
    rows = [compare(case, arguments.rounds, device) for case in CASES]
    report([Table("Step of an encoder in every precision and layout", rows)], device, arguments.out)


if __name__ == "__main__":
    main()
