"""From a recipe and images to a trained encoder in a run directory; and on from where it stopped."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from stillhouse.config import Table, assign
from stillhouse.data.augment import center_view
from stillhouse.data.sources import absolute
from stillhouse.data.store import ImageStore, write_quarantine
from stillhouse.data.stream import ViewStream, sample_views
from stillhouse.distributed import barrier, is_main, process_group, rank, world_size
from stillhouse.errors import Interrupted, SettingsError
from stillhouse.evaluation.monitor import HealthMonitor, Monitor
from stillhouse.files import write_atomically
from stillhouse.methods.method import Method
from stillhouse.networks.several_teachers import absolute_sources
from stillhouse.networks.synchronized import synchronize_norms
from stillhouse.recipes.cache_choice import forecast
from stillhouse.recipes.directory import Run
from stillhouse.recipes.preparing import Prepared, prepare
from stillhouse.recipes.recipe import Recipe, find_recipe, read_recipe
from stillhouse.recipes.starting import absolute_start
from stillhouse.training.checkpoint import Checkpoints, TrainingState
from stillhouse.training.journal import NOTE, Listener, LogFile, TensorBoard, cut_log
from stillhouse.training.loop import Loop, Observer
from stillhouse.training.optimizers import make_optimizer
from stillhouse.training.precision import torch_memory_format
from stillhouse.training.settings import TrainingConfig

NUM_SAMPLES = 8
IMAGES_AHEAD = 4096
"""Images that a GPU augments together, at most, where batches are small."""


def train(
    recipe: str | Path | Table,
    data: str = "",
    out: str | Path = "",
    settings: Mapping[str, Any] | None = None,
    listeners: Sequence[Listener] = (),
) -> Run:
    """Train an encoder by a recipe; without labels, unless its method learns from them.

    Args:
        recipe: name of a shipped recipe, path of a .toml file, or a nested table.
        data: URI of the images; may be left out when the recipe names them.
        out: run directory to make.
        settings: dotted names to values, laid over the recipe.
        listeners: hear every record (`training.journal`); the log file always does.

    Returns:
        The run directory, with the encoder in it.

    Raises:
        SettingsError, DataError, RunError, TrainingError: what a user can mend.
        Interrupted: a signal came; the run is saved and can be resumed.
    """
    wanted = as_wanted(recipe, data, settings)
    if not out:
        raise SettingsError("out: no run directory named; choose one, for instance runs/first")
    run = Run(Path(out))
    with alongside(wanted):
        begin(run, prepare(wanted), listeners)
    return run


def begin(run: Run, prepared: Prepared, listeners: Sequence[Listener] = (), halt: Callable[[], str] = str) -> None:
    """Train what was prepared, in a new run directory; called `alongside` its recipe.

    Args:
        run: directory to make.
        prepared: its `method` is trained in place.
        listeners: as in `train`.
        halt: asked after every step; anything but an empty answer says why the run is to be saved and stopped.

    Raises:
        as `train`; Interrupted also when `halt` had a reason.
    """
    with run.alone() if is_main() else nullcontext():
        if is_main():
            run.claim(prepared.recipe)
            write_quarantine(run.quarantine_file, prepared.store.rejected)
            _write_samples(run, prepared)
        barrier()
        _run(run, prepared, TrainingState(), listeners, halt)


def go_on(run: Run, prepared: Prepared, listeners: Sequence[Listener] = (), halt: Callable[[], str] = str) -> None:
    """Train what was prepared on from the last checkpoint; arguments and errors as in `begin`."""
    with run.alone() if is_main() else nullcontext():
        _run(run, prepared, None, listeners, halt)


def as_wanted(recipe: str | Path | Table, data: str = "", settings: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe with settings laid over it, and all it names findable from any folder; arguments as in `train`."""
    table = recipe if isinstance(recipe, dict) else find_recipe(str(recipe))
    for name, value in {**({"data.uri": data} if data else {}), **_one_length(settings or {})}.items():
        table = assign(table, name, value)
    wanted = read_recipe(table)
    return replace(
        wanted,
        data=replace(wanted.data, uri=absolute(wanted.data.uri)),
        start=absolute_start(wanted.start),
        teacher=absolute_sources(wanted.teacher),
    )


def _one_length(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Whoever sets epochs or steps means these, whatever the recipe counts in."""
    if "training.epochs" in settings and "training.steps" not in settings:
        return {**settings, "training.steps": 0}
    if settings.get("training.steps") and "training.epochs" not in settings:
        return {**settings, "training.epochs": TrainingConfig.epochs}
    return settings


@contextmanager
def alongside(recipe: Recipe) -> Iterator[None]:
    """Joined with the other processes, if there are any; the caller's random state is kept."""
    with process_group(_device_type(recipe.training.device)), torch.random.fork_rng(_devices()):
        yield


def resume(folder: str | Path, listeners: Sequence[Listener] = ()) -> Run:
    """Continue a run exactly where its last checkpoint stands.

    Args:
        folder: the run directory; needs no settings, and refuses changed ones.
        listeners: as in `train`.

    Raises:
        RunError: no checkpoint, a damaged one, or a recipe that changed.
    """
    run = Run(Path(folder))
    run.check_unchanged()
    recipe = run.read_recipe()
    with alongside(recipe):
        go_on(run, prepare(recipe), listeners)
    return run


def _run(
    run: Run,
    prepared: Prepared,
    state: TrainingState | None,
    listeners: Sequence[Listener],
    halt: Callable[[], str],
) -> None:
    recipe, method, device = prepared.recipe, prepared.method, prepared.device
    training = recipe.training
    if world_size() > 1:
        synchronize_norms(method, device.type)
    method.to(device=device, memory_format=torch_memory_format(training.memory_format))  # type: ignore[call-overload]
    store = prepared.store.to(device)  # pixels that are mapped from a file stay there, and are sent batch by batch
    optimizer = make_optimizer(
        training.optimizer,
        method,
        weight_decay=training.weight_decay,
        momentum=training.momentum,
        decay_all=training.decay_all,
    )
    began = [p.detach().clone() for group in optimizer.param_groups for p in group["params"] if training.proximal]
    checkpoints = Checkpoints(run.checkpoints_folder, recipe.to_table(), prepared.images)
    if state is None:
        state = checkpoints.restore(method, optimizer)
        if is_main():
            cut_log(run.log_file, state.step)
    heard = [LogFile(run.log_file), *_tensorboard(run, recipe), *listeners] if is_main() else []
    stream = _stream(recipe, store, method, device)
    loop = Loop(
        method, stream, optimizer, training, checkpoints, device, heard,
        _observers(recipe, store, stream.steps_per_epoch), halt, began,
    )  # fmt: skip
    if world_size() > 1:
        loop.model = DistributedDataParallel(method)

    def tell(record: Mapping[str, Any]) -> None:
        for listener in heard:
            listener.hear({"step": state.step, **record})

    try:
        with torch.backends.cudnn.flags(benchmark=False, deterministic=True):
            tell({"kind": "start", "about": _about(prepared, loop.total_steps) if heard else []})
            if prepared.cache:
                loop.stream = replace(prepared.cache, store=store).teach(
                    stream, lambda sentence: tell({"kind": NOTE, "sentence": sentence})
                )
            loop.run(state)
    except Interrupted as stop:
        _finish(run, prepared, state)
        raise Interrupted(f"{stop}; continue with `stillhouse resume {run.folder}`") from stop
    finally:
        for listener in heard:
            listener.close()
    _finish(run, prepared, state)


def _finish(run: Run, prepared: Prepared, state: TrainingState) -> None:
    """Write the encoder as it is now; and the bad images again, since some are only found on the way."""
    if is_main():
        run.save(prepared.method, prepared.recipe, state.step)
        write_quarantine(run.quarantine_file, prepared.store.rejected)


def _stream(recipe: Recipe, store: ImageStore, method: Method, device: torch.device) -> ViewStream:
    training = recipe.training
    return ViewStream(
        store=store,
        plan=method.views,
        image_size=recipe.encoder.image_size,
        batch_size=training.batch_size // world_size(),
        seed=training.seed,
        rows=method.rows,
        batches_per_step=training.accumulate,
        rank=rank(),
        world_size=world_size(),
        ahead=max(1, min(8, IMAGES_AHEAD // training.batch_size)) if device.type == "cuda" else 1,
    )


def _about(prepared: Prepared, total_steps: int) -> list[str]:
    """What is going to happen, with everything that followed from the images, in a few lines."""
    recipe, encoder, training = prepared.recipe, prepared.method.encoder, prepared.recipe.training
    weights = sum(parameter.numel() for parameter in encoder.parameters()) / 1e6
    network = f"{recipe.method.title} on {recipe.encoder.name}: {encoder.image_size} px, {weights:.2f} M weights"
    if recipe.encoder.patch_size:
        network += f", patches of {recipe.encoder.patch_size} px"
    images = f"{len(prepared.store):,} images from {recipe.data.uri}"
    if rejected := len(prepared.store.rejected):
        images += f"; {rejected:,} more cannot be used, see quarantine.txt"
    if prepared.method.rows is not None:
        images += f"; learning from the {len(prepared.method.rows):,} with a known label"
    budget = f"{training.epochs:g} epochs, {total_steps:,} steps of {training.images_per_step} images"
    speed = f"{training.optimizer}, peak learning rate {training.peak_learning_rate:.2e}"
    if prepared.method.peer is not None:
        network += f"; its peer is {recipe.peer.name}"
    begun = [f"begins from {recipe.start.source}"] if recipe.start.source else []
    taught = [
        f"teacher: {teacher.source} at {teacher.image_size} px, licence {teacher.license or 'unknown'}"
        for teacher in (recipe.teacher, *recipe.teacher.more)
        if teacher.source
    ]
    kept = [*prepared.reasons, *([forecast(prepared.cache)] if prepared.cache else [])]
    lines = [network, *begun, *taught, *kept, images]
    return [*lines, f"{budget}; {speed}; {training.precision} on {prepared.device}"]


def _observers(recipe: Recipe, store: ImageStore, steps_per_epoch: int) -> list[Observer]:
    observers = []
    if recipe.training.health_steps:
        observers.append(Observer(HealthMonitor(store, recipe.evaluation).look, recipe.training.health_steps))
    if recipe.evaluation.every and Monitor.can_watch(store):
        observers.append(Observer(Monitor(store, recipe.evaluation).look, recipe.evaluation.every * steps_per_epoch))
    return observers


def _tensorboard(run: Run, recipe: Recipe) -> list[Listener]:
    return [TensorBoard(run.folder / "tensorboard")] if recipe.training.tensorboard else []


def _write_samples(run: Run, prepared: Prepared) -> None:
    """A few images as they are and as the method sees them, for the report."""
    store, recipe = prepared.store, prepared.recipe
    first = torch.arange(min(NUM_SAMPLES, len(store)))
    originals = center_view(store.gather(first), recipe.encoder.image_size)
    size, seed = recipe.encoder.image_size, recipe.training.seed
    views = sample_views(store, prepared.method.views, size, seed, NUM_SAMPLES)
    views = tuple(view for view in views if view.shape == views[0].shape)
    known, seen = _to_bytes(originals), np.stack([_to_bytes(view) for view in views])
    write_atomically(run.samples_file, lambda file: np.savez(file, originals=known, views=seen))


def _to_bytes(images: torch.Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return (images * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def _devices() -> list[int]:
    """GPUs whose random state training may use up."""
    return [torch.cuda.current_device()] if torch.cuda.is_available() else []


def _device_type(name: str) -> str:
    return "cuda" if name.startswith("cuda") or (name == "auto" and torch.cuda.is_available()) else "cpu"
