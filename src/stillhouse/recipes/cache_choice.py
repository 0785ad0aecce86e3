"""Whether a teacher cache pays, and whether the disk takes it: settled before training, from measurements."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import torch

from stillhouse.data.answers import Part
from stillhouse.data.store import DISK_MARGIN
from stillhouse.distributed import agree, is_main, world_size
from stillhouse.errors import RunError
from stillhouse.files import free_bytes
from stillhouse.networks.encoder import Encoder
from stillhouse.recipes.recipe import Recipe
from stillhouse.recipes.teacher_cache import TeacherCache
from stillhouse.training.precision import autocast, torch_memory_format

NUM_TIMED = 32
"""Images of the batch on which costs are measured."""
LEAST_SAVING = 0.1
"""Share of a run's time below which `auto` does without."""
GIB, MIB = 2**30, 2**20


@dataclass(frozen=True)
class Costs:
    """Seconds for one image, with all its views."""

    views: float
    """To make them."""
    teacher: float
    """To answer about them."""
    student: float
    """To learn from them: forward and backward."""


@dataclass(frozen=True)
class Settled:
    """A recipe in which it is written whether the teacher's answers are kept, and in which words to tell why."""

    recipe: Recipe
    cache: TeacherCache | None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Decision:
    """Of the main process: go on with the cache, go on without, or refuse."""

    keep: bool = False
    refusal: str = ""
    reason: str = ""


def settle(cache: TeacherCache, student: Encoder) -> Settled:
    """Decide what `auto` means, and see that the disk takes what is kept; keep no more epochs than are trained.

    Raises:
        RunError: `on` was asked for, and the disk has no room or cannot be written.
    """
    wanted = cache.recipe.teacher
    epochs = min(wanted.cache_epochs, math.ceil(cache.recipe.training.epochs))
    shortened = f"teacher cache: {epochs} epochs instead of {wanted.cache_epochs}; no more are trained"
    cache = replace(cache, recipe=replace(cache.recipe, teacher=replace(wanted, cache_epochs=epochs)))
    decision = _decide(cache, student) if is_main() else _Decision()
    keep, refused = agree(decision.keep, bool(decision.refusal))
    if refused:
        raise RunError(decision.refusal or "teacher.cache: the main process cannot keep it; see what it says")
    reasons = (shortened if keep and epochs < wanted.cache_epochs else "", decision.reason)
    teacher = replace(cache.recipe.teacher if keep else wanted, cache="on" if keep else "off")
    recipe = replace(cache.recipe, teacher=teacher)
    return Settled(recipe, replace(cache, recipe=recipe) if keep else None, tuple(filter(None, reasons)))


def forecast(cache: TeacherCache) -> str:
    """Where the cache lies, its size, and about how long it takes to fill what is missing, in one line."""
    absent, files = _absent(cache), cache.files
    size = sum(map(files.num_bytes, files.parts(cache.epochs)))
    line = f"teacher cache: {cache.epochs} epochs of views, {_size(size)} in {files.folder}"
    if not absent:
        return f"{line}, filled before"
    costs = measure(cache)
    seconds = _images(absent) * (costs.views + costs.teacher) / world_size()
    return f"{line}, filled first in about {timedelta(seconds=math.ceil(seconds))}"


def measure(cache: TeacherCache, student: Encoder | None = None) -> Costs:
    """What a small batch costs; learning counts as nothing where no student is given."""
    device, training = cache.device, cache.recipe.training
    index = torch.arange(min(NUM_TIMED, len(cache.store)))
    layout = torch_memory_format(training.memory_format)
    cache.teacher.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    pixels = cache.store.gather(index).to(device)
    views = cache.views(index, pixels, 0)
    making = _seconds(lambda: cache.views(index, pixels, 0), device)
    answering, learning = _seconds(lambda: cache.ask(views), device), 0.0
    if student is not None:
        pupil = copy.deepcopy(student).requires_grad_(True).train()  # a moving average, where that is what is kept
        pupil.to(device=device, memory_format=layout)  # type: ignore[call-overload]

        def learn() -> None:
            for view in views:
                with autocast(training.precision, device):
                    loss = pupil(view).float().square().mean()
                loss.backward()

        learning = _seconds(learn, device)
    return Costs(making / len(index), answering / len(index), learning / len(index))


def _decide(cache: TeacherCache, student: Encoder) -> _Decision:
    automatic = cache.recipe.teacher.cache == "auto"
    try:
        cache.files.claim()
    except RunError as error:
        return _Decision(reason=f"{error}; it is off") if automatic else _Decision(refusal=str(error))
    absent = _absent(cache)
    needed, free = sum(map(cache.files.num_bytes, absent)), free_bytes(cache.files.folder)
    if absent and free < needed + DISK_MARGIN:
        told = f"{cache.files.folder.parent} has {_size(free)} free, and {_size(needed)} are needed"
        if automatic:
            return _Decision(reason=f"teacher cache: off; {told}")
        return _Decision(
            refusal=f"teacher.cache: {told}; free space, set STILLHOUSE_CACHE to another folder, "
            "or train with fewer teacher.cache_epochs"
        )
    if not automatic:
        return _Decision(keep=True)
    costs = measure(cache, student)
    saving = _saving(costs, cache.recipe.training.epochs, _images(absent) / len(cache.store))
    keep = saving >= LEAST_SAVING
    return _Decision(
        keep,
        reason=f"teacher cache: {'on' if keep else 'off'}; an image costs the teacher {1e3 * costs.teacher:.2g} ms and "
        f"the student {1e3 * costs.student:.2g} ms, so {cache.epochs} kept epochs would save {max(0.0, saving):.0%}",
    )


def _saving(costs: Costs, epochs: float, filled: float) -> float:
    """Share of the time of a run that is saved where so many epochs of views are answered first, in [-inf, 1]."""
    without = epochs * (costs.views + costs.teacher + costs.student)
    kept = filled * (costs.views + costs.teacher) + epochs * (costs.views + costs.student)
    return 1.0 - kept / without


def _absent(cache: TeacherCache) -> list[Part]:
    """Files that are not there; damaged ones are only found when they are filled."""
    return [part for part in cache.files.parts(cache.epochs) if not cache.files.is_there(part)]


def _images(parts: list[Part]) -> int:
    return sum(part.stop - part.start for part in parts)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """The better of two calls after a first one that does not count."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return min(times[1:])


def _size(num_bytes: int) -> str:
    return f"{num_bytes / GIB:,.1f} GiB" if num_bytes >= GIB else f"{num_bytes / MIB:,.1f} MiB"
