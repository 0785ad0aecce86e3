"""From a recipe and images to a trained encoder in a run directory; and on from where it stopped."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from stillhouse.config import Table, assign
from stillhouse.data.augment import center_view
from stillhouse.data.sources import open_source
from stillhouse.data.store import ImageStore, open_store, probe_size, write_quarantine
from stillhouse.data.stream import ViewStream, sample_views
from stillhouse.distributed import barrier, is_main, process_group, rank, world_size
from stillhouse.errors import Interrupted, SettingsError
from stillhouse.evaluation.monitor import HealthMonitor, Monitor
from stillhouse.files import write_atomically
from stillhouse.methods.method import Method
from stillhouse.methods.table import find_method
from stillhouse.networks.build import build_encoder
from stillhouse.networks.synchronized import synchronize_norms
from stillhouse.recipes.directory import Run
from stillhouse.recipes.recipe import Recipe, find_recipe, read_recipe
from stillhouse.training.checkpoint import TrainingState
from stillhouse.training.journal import Listener, LogFile, TensorBoard
from stillhouse.training.loop import Loop, Observer
from stillhouse.training.optimizers import make_optimizer
from stillhouse.training.precision import choose_memory_format, choose_precision, torch_memory_format

NUM_SAMPLES = 8


@dataclass(frozen=True)
class Prepared:
    """A recipe with everything that follows from the images written out, and what it describes."""

    recipe: Recipe
    store: ImageStore
    method: Method
    device: torch.device


def train(
    recipe: str | Table,
    data: str = "",
    out: str | Path = "",
    settings: Mapping[str, Any] | None = None,
    listeners: Sequence[Listener] = (),
) -> Run:
    """Train an encoder without labels.

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
    table = find_recipe(recipe) if isinstance(recipe, str) else recipe
    for name, value in {**({"data.uri": data} if data else {}), **(settings or {})}.items():
        table = assign(table, name, value)
    if not out:
        raise SettingsError("out: no run directory named; choose one, for instance runs/first")
    run = Run(Path(out))
    wanted = read_recipe(table)
    with process_group(_device_type(wanted.training.device)), torch.random.fork_rng():
        prepared = prepare(wanted)
        if is_main():
            run.claim(prepared.recipe)
            write_quarantine(run.quarantine_file, prepared.store.rejected)
            _write_samples(run, prepared)
        barrier()
        _run(run, prepared, TrainingState(), listeners)
    return run


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
    with process_group(_device_type(recipe.training.device)), torch.random.fork_rng():
        _run(run, prepare(recipe), None, listeners)
    return run


def prepare(recipe: Recipe) -> Prepared:
    """Open the images and build the method; nothing is written into a run directory.

    Raises:
        SettingsError, DataError: the recipe, its encoder or its images do not work.
    """
    if not recipe.data.uri:
        raise SettingsError(
            "data.uri: no images named; pass --data URI (a folder, list, parquet, tar shards or digits)"
        )
    data, image_size = _fit_data(recipe)
    store = _open_in_turn(replace(recipe, data=data))
    encoder_config = recipe.encoder.fit(image_size)
    seed = recipe.training.seed
    encoder = build_encoder(encoder_config, seed)
    entry = find_method(recipe.method_name)
    method_config = recipe.method.fit(encoder)
    torch.manual_seed(seed)
    method = entry.method(method_config, encoder)
    device = choose_device(recipe.training.device)
    wanted = recipe.training
    training = replace(
        wanted,
        batch_size=min(wanted.batch_size, max(2, len(store))),
        precision=choose_precision(encoder, device) if wanted.precision == "auto" else wanted.precision,
        memory_format=choose_memory_format(encoder) if wanted.memory_format == "auto" else wanted.memory_format,
    )
    fitted = replace(recipe, data=data, encoder=encoder_config, method=method_config, training=training)
    return Prepared(fitted, store, method, device)


def choose_device(name: str) -> torch.device:
    """The device called `name`; `auto` is a GPU where there is one.

    Raises:
        SettingsError: the name is unknown or the device is absent.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type == "cuda" and device.index is None and world_size() > 1:
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(f"training.device: {name!r} cannot be used ({error}); set auto or cpu") from error
    return device


def _fit_data(recipe: Recipe) -> tuple[Any, int]:
    data = recipe.data
    if data.store_size and recipe.encoder.image_size:
        return data, recipe.encoder.image_size
    store_size, image_size = probe_size(open_source(data.uri))
    wanted = recipe.encoder.image_size or image_size
    if wanted > image_size:
        store_size = wanted if image_size == store_size else -(-wanted * store_size // image_size)
    return replace(data, store_size=data.store_size or store_size), wanted


def _open_in_turn(recipe: Recipe) -> ImageStore:
    """Open the store; the main process first, so that the others find its cache."""
    for turn in (True, False):
        if is_main() == turn:
            store = open_store(recipe.data.uri, recipe.data, recipe.data.store_size)
        barrier()
    return store


def _run(run: Run, prepared: Prepared, state: TrainingState | None, listeners: Sequence[Listener]) -> None:
    recipe, method, device = prepared.recipe, prepared.method, prepared.device
    training = recipe.training
    torch.backends.cudnn.deterministic = True
    if world_size() > 1:
        synchronize_norms(method, device.type)
    method.to(device=device, memory_format=torch_memory_format(training.memory_format))  # type: ignore[call-overload]
    store = prepared.store.to(device) if device.type == "cuda" else prepared.store
    optimizer = make_optimizer(
        training.optimizer,
        method,
        weight_decay=training.weight_decay,
        momentum=training.momentum,
        decay_all=training.decay_all,
    )
    if state is None:
        state = run.checkpoints.restore(method, optimizer)
    heard = [LogFile(run.log_file), *_tensorboard(run, recipe), *listeners] if is_main() else []
    loop = Loop(
        method, _stream(recipe, store, method, device), optimizer, training, run.checkpoints, device, heard,
        _observers(recipe, store, _steps_per_epoch(recipe, store)),
    )  # fmt: skip
    if world_size() > 1:
        loop.model = DistributedDataParallel(method)
    for listener in heard:
        listener.hear({"kind": "start", "step": state.step, "about": _about(prepared, loop.total_steps)})
    try:
        loop.run(state)
    except Interrupted as stop:
        raise Interrupted(f"{stop}; continue with `stillhouse resume {run.folder}`") from stop
    finally:
        for listener in heard:
            listener.close()
    if is_main():
        run.save(method.encoder, recipe, state.step)
        write_quarantine(run.quarantine_file, store.rejected)  # images that are decoded anew are found bad on the way


def _stream(recipe: Recipe, store: ImageStore, method: Method, device: torch.device) -> ViewStream:
    training = recipe.training
    if training.batch_size % world_size():
        raise SettingsError(
            f"training.batch_size: {training.batch_size} does not divide among {world_size()} processes; "
            f"set {training.batch_size // world_size() * world_size() or world_size()}"
        )
    return ViewStream(
        store=store,
        plan=method.views,
        image_size=recipe.encoder.image_size,
        batch_size=training.batch_size // world_size(),
        seed=training.seed,
        batches_per_step=training.accumulate,
        rank=rank(),
        world_size=world_size(),
        ahead=8 if device.type == "cuda" and recipe.encoder.image_size <= 64 else 1,
    )


def _about(prepared: Prepared, total_steps: int) -> list[str]:
    """What is going to happen, with everything that followed from the images, in a few lines."""
    recipe, encoder, training = prepared.recipe, prepared.method.encoder, prepared.recipe.training
    weights = sum(parameter.numel() for parameter in encoder.parameters())
    patches = f", patches of {recipe.encoder.patch_size}" if recipe.encoder.patch_size else ""
    rejected = len(prepared.store.rejected)
    return [
        f"{recipe.method_name} on {recipe.encoder.name}: {encoder.image_size} px{patches}, {weights / 1e6:.2f} M weights, "
        f"{len(encoder.block_dims)} depths",
        f"{len(prepared.store):,} images from {recipe.data.uri}"
        + (f"; {rejected:,} more cannot be used, see quarantine.txt" if rejected else ""),
        f"{training.epochs:g} epochs, {total_steps:,} steps of {training.images_per_step} images; {training.optimizer}, "
        f"peak learning rate {training.peak_learning_rate:.2e}; {training.precision} on {prepared.device}",
    ]


def _steps_per_epoch(recipe: Recipe, store: ImageStore) -> int:
    return max(1, len(store) // recipe.training.images_per_step)


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
    views = [
        view for view in sample_views(store, prepared.method.views, size, seed, NUM_SAMPLES) if view.shape[-1] == size
    ]
    known, seen = _to_bytes(originals), np.stack([_to_bytes(view) for view in views])
    write_atomically(run.samples_file, lambda file: np.savez(file, originals=known, views=seen))


def _to_bytes(images: torch.Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return (images * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def _device_type(name: str) -> str:
    return "cuda" if name.startswith("cuda") or (name == "auto" and torch.cuda.is_available()) else "cpu"
