"""What the teacher cache saves, and what it changes: training steps with a teacher asked, and with answers replayed.

    python benchmarks/teacher_cache.py --data URI [--out FILE]

The student learns by SEED from a teacher with random weights, on the same two epochs of views again and again: with the
teacher asked in every step, and with its answers replayed from fp32 and from fp16. All three take whole steps of equal
batches in turns, an epoch at a time; a first epoch does not count. The losses of all steps are compared.
"""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from steps import method_step, prepared, stream_of
from stillhouse.networks.build import EncoderConfig, build_encoder
from stillhouse.networks.saved import save_encoder
from stillhouse.networks.teacher import FrozenTeacher
from stillhouse.recipes.preparing import Prepared
from stillhouse.training.precision import autocast, torch_memory_format
from timing import Bar, Row, Table, measure, parser, prepare, ratio, report

STUDENT, SIZE, VIEW_EPOCHS = "vit_micro", 32, 2
FASTER, SAME, NEAR = Bar(1.8, at_most=False), Bar(0.0), Bar(1e-3)
KINDS = {
    "asked": {"teacher.cache": "off"},
    "fp32": {"teacher.cache": "on", "teacher.cache_dtype": "fp32"},
    "fp16": {"teacher.cache": "on", "teacher.cache_dtype": "fp16"},
}


@dataclass(frozen=True)
class Case:
    """A teacher, and the batch size on a CPU and on a GPU."""

    teacher: str
    batch_size: int
    large_batch_size: int


CASES = (Case("resnet18", 32, 512), Case("vit_tiny", 32, 512))


def steps_of(run: Prepared, losses: list[Tensor]) -> tuple[Callable[[], None], float]:
    """A step that keeps its loss, and the seconds that filling took before it."""
    layout = torch_memory_format(run.recipe.training.memory_format)
    run.method.to(run.device, memory_format=layout)  # type: ignore[call-overload]
    stream, started = replace(stream_of(run), view_epochs=VIEW_EPOCHS), time.perf_counter()
    if run.cache:
        stream = replace(run.cache, store=stream.store).teach(stream, lambda sentence: None)
    seconds = time.perf_counter() - started
    step = method_step(run, stream.batches(0))
    return lambda: losses.append(step()), seconds


def compare(case: Case, data: str, rounds: int, device: torch.device) -> Row:
    """Time one teacher and compare the losses."""
    batch_size = case.large_batch_size if device.type == "cuda" else case.batch_size
    together = 4
    losses: dict[str, list[Tensor]] = {name: [] for name in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STILLHOUSE_CACHE"] = folder
        config = EncoderConfig(name=case.teacher, image_size=SIZE).fit(SIZE)
        save_encoder(Path(folder) / "teacher", build_encoder(config, 1), config, {})
        settings = {
            "encoder.name": STUDENT,
            "encoder.patch_size": 8,
            "teacher.source": str(Path(folder) / "teacher"),
            "teacher.cache_epochs": VIEW_EPOCHS,
            "method.queue_size": 1024,
            "training.batch_size": batch_size,
            "data.limit": together * batch_size,
        }
        runs = {name: prepared("seed", data, {**settings, **kind}) for name, kind in KINDS.items()}
        steps = {name: steps_of(run, losses[name]) for name, run in runs.items()}
        times = measure({name: step for name, (step, _) in steps.items()}, rounds, device, together)
        kept = runs["fp32"].cache
        assert kept is not None
        room = sum(path.stat().st_size for path in kept.files.folder.glob("*.bin"))
    asked, fp32, fp16 = (torch.stack(losses[name]).double() for name in KINDS)
    exact, near = (float(((each - asked).abs() / asked).max()) for each in (fp32, fp16))
    return {
        "teacher": case.teacher,
        "B": batch_size,
        "runs in": runs["asked"].recipe.training.precision,
        "teacher forward / student forward": forward_ratio(runs["asked"], kept.teacher, rounds),
        "asked, images/s": batch_size / min(times["asked"]),
        "replayed, images/s": batch_size / min(times["fp32"]),
        "asked / replayed": ratio(times["asked"], times["fp32"]),
        "bar": FASTER.judge(ratio(times["asked"], times["fp32"])),
        "from fp16": ratio(times["asked"], times["fp16"]),
        "losses differ by, fp32": exact,
        "its bar": SAME.judge(exact),
        "fp16": near,
        "bar of that": NEAR.judge(near),
        "steps": str(len(asked)),
        "fp32, MiB": room / 2**20,
        "filled and checked in s": steps["fp32"][1],
    }


def forward_ratio(run: Prepared, teacher: FrozenTeacher, rounds: int) -> float:
    """The teacher's forward pass over the student's, on the same views in the run's precision."""
    (views,) = next(stream_of(run).batches(0)).views

    def forward(network: nn.Module) -> None:
        with torch.no_grad(), autocast(run.recipe.training.precision, run.device):
            network(views)

    works = {"teacher": lambda: forward(teacher), "student": lambda: forward(run.method.encoder)}
    times = measure(works, rounds, run.device, 3)
    return ratio(times["teacher"], times["student"])


def main() -> None:
    """Measure, print, and write where asked."""
    arguments = parser("Time training steps with and without the teacher cache.", rounds=6)
    arguments.add_argument("--data", required=True, help="URI of images of about 32 pixels")
    arguments.add_argument("--only", default="", help="only teachers whose name contains this")
    chosen = arguments.parse_args()
    device = prepare()
    rows = [compare(case, chosen.data, chosen.rounds, device) for case in CASES if chosen.only in case.teacher]
    title = f"SEED on {STUDENT}, patch 8, {SIZE} px: the teacher asked, and its answers replayed"
    report([Table(title, rows)], device, chosen.out)


if __name__ == "__main__":
    main()
