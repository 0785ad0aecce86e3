"""From a recipe to what it describes: images, encoder, method and device, with every derived setting written out."""

import hashlib
import os
from dataclasses import dataclass, replace
from typing import Any

import torch

from stillhouse.data.labels import find_labels, hide_labels
from stillhouse.data.sources import digest, open_source
from stillhouse.data.store import DataConfig, ImageStore, fit_sizes, open_store
from stillhouse.distributed import barrier, is_main, world_size
from stillhouse.errors import SettingsError
from stillhouse.methods.choice import Choice, Companion
from stillhouse.methods.method import Method
from stillhouse.networks.build import EncoderConfig, build_encoder
from stillhouse.networks.encoder import Encoder, undisturbed
from stillhouse.networks.several_teachers import open_teachers
from stillhouse.networks.teacher import FrozenTeacher
from stillhouse.recipes.cache_choice import settle
from stillhouse.recipes.recipe import COMPANIONS, Recipe
from stillhouse.recipes.starting import begin
from stillhouse.recipes.teacher_cache import TeacherCache
from stillhouse.training.precision import choose_memory_format, choose_precision
from stillhouse.training.settings import TrainingConfig

NUM_COMPARED = 64
"""Images whose pixels are compared when a run is resumed; of all others only the names are."""


@dataclass(frozen=True)
class Prepared:
    """A recipe with everything that follows from the images written out, and what it describes."""

    recipe: Recipe
    store: ImageStore
    method: Method
    device: torch.device
    images: dict[str, Any]
    """What must be the same when the run is resumed."""
    cache: TeacherCache | None = None
    """The frozen teacher's answers, where the recipe keeps them."""
    reasons: tuple[str, ...] = ()
    """What was decided and why, in sentences."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass over the images that are learnt from."""
        return _num_rows(self.method, self.store) // self.recipe.training.images_per_step

    @property
    def total_steps(self) -> int:
        """Length of the run."""
        return self.recipe.training.total_steps(self.steps_per_epoch)


def prepare(recipe: Recipe) -> Prepared:
    """Open the images and build the method; nothing is written into a run directory.

    Raises:
        SettingsError, DataError: the recipe, its encoder or its images do not work.
        RunError: the disk does not take the teacher cache that the recipe asks for.
    """
    if not recipe.data.uri:
        raise SettingsError(
            "data.uri: no images named; pass --data URI (a folder, list, parquet, tar shards, "
            "or the built-in scenes and digits)"
        )
    recipe, start = begin(recipe)
    data, image_size = _fit_data(recipe)
    recipe, companions = _open_companions(recipe, image_size)
    store = hide_labels(_open_in_turn(replace(recipe, data=data)), data)
    encoder_config = recipe.encoder.fit(image_size)
    seed = recipe.training.seed
    encoder = start.encoder or build_encoder(encoder_config, seed)
    choice = recipe.method.fit(encoder, len(store))
    _check_sizes(choice, encoder, encoder_config)
    torch.manual_seed(seed)
    companions["head"] = start.head
    if "labels" in choice.companions:
        companions["labels"] = labels = find_labels(store, data.classes)
        data = replace(data, classes=labels.classes)
    method = choice.build(encoder, companions)
    start.give(method)
    images = _describe(store, method)
    device = choose_device(recipe.training.device)
    num_rows = _num_rows(method, store)
    wanted = recipe.training
    training = replace(
        _fit_length(replace(wanted, batch_size=_fit_batch(wanted, num_rows)), num_rows),
        precision=choose_precision(encoder, device) if wanted.precision == "auto" else wanted.precision,
        memory_format=choose_memory_format(encoder) if wanted.memory_format == "auto" else wanted.memory_format,
    )
    fitted = replace(recipe, data=data, encoder=encoder_config, method=choice, training=training)
    return _with_cache(Prepared(fitted, store, method, device, images), companions.get("teacher"))


def _with_cache(prepared: Prepared, teacher: Companion | None) -> Prepared:
    """The same, with what follows from the settings of the teacher cache."""
    if not isinstance(teacher, FrozenTeacher) or prepared.recipe.teacher.cache == "off":
        return prepared
    method = prepared.method
    wanted = TeacherCache(prepared.recipe, prepared.store, method.views, teacher, prepared.device)
    settled = settle(wanted, method.encoder)
    return replace(prepared, recipe=settled.recipe, cache=settled.cache, reasons=settled.reasons)


def _describe(store: ImageStore, method: Method) -> dict[str, Any]:
    """What tells these images apart from others: all names, some pixels and, where a method holds them, labels.

    Nothing may have been read before: an undecoded store replaces a bad image, and its label, when it comes upon it.
    """
    held = any(name.rpartition(".")[2] == "labels" for name, _ in method.named_buffers())
    known = [store.labels.tolist()] if held else []
    spread = torch.linspace(0, len(store) - 1, min(NUM_COMPARED, len(store)), dtype=torch.float64).long()
    pixels = store.gather(spread).cpu().numpy().tobytes()
    return {"images": len(store), "digest": digest([*store.ids, hashlib.blake2b(pixels).hexdigest(), *known])}


def _open_companions(recipe: Recipe, image_size: int) -> tuple[Recipe, dict[str, Companion]]:
    """What the methods need beside their encoder, by kind; and the recipe with what was found out about it."""
    companions: dict[str, Companion] = {}
    if recipe.method.companions & COMPANIONS["teacher"]:
        teachers, found = open_teachers(recipe.teacher)
        recipe = replace(recipe, teacher=found)
        companions |= {"teacher": teachers[0], "teachers": teachers}
    if recipe.method.companions & COMPANIONS["peer"]:
        recipe = replace(recipe, peer=recipe.peer.fit(recipe.encoder.image_size or image_size))
        companions["peer"] = build_encoder(recipe.peer, recipe.training.seed + 1)
    return recipe, companions


def _num_rows(method: Method, store: ImageStore) -> int:
    """Images that are learnt from."""
    return len(store) if method.rows is None else len(method.rows)


def _fit_length(training: TrainingConfig, num_rows: int) -> TrainingConfig:
    """The same settings with the epochs that so many steps take written out, where steps are counted.

    Raises:
        SettingsError: another number of epochs is named, too.
    """
    if not training.steps:
        return training
    epochs = training.steps / (num_rows // training.images_per_step)
    if training.epochs not in (TrainingConfig.epochs, epochs):
        raise SettingsError(
            f"training.epochs: {training.epochs:g}, but training.steps is {training.steps}; leave one of them out"
        )
    return replace(training, epochs=epochs)


def _check_sizes(choice: Choice, encoder: Encoder, config: EncoderConfig) -> None:
    """Raise `SettingsError` when the encoder does not take views of the sizes that a method wants."""
    wanted = {size: choice.key(part) for part in choice.parts for size in part.config.views.sizes(config.image_size)}
    for size in sorted(wanted.keys() - {config.image_size}):
        try:
            with undisturbed(encoder):
                encoder(torch.zeros(1, 3, size, size))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise SettingsError(
                f"{wanted[size]}.views: {config.name} at {config.image_size} px does not take views of {size} px "
                f"({error}); choose an encoder that does, or views of one size"
            ) from error


def choose_device(name: str) -> torch.device:
    """The device called `name`; `auto` is a GPU where there is one.

    Raises:
        SettingsError: the name is unknown or the device is absent.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise ValueError("only CPUs and CUDA devices are supported")
        if device.type == "cuda" and world_size() > 1:
            if device.index is not None:
                raise ValueError("with several processes each takes its own device; set cuda")
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise SettingsError(f"training.device: {name!r} cannot be used ({error}); set auto or cpu") from error
    return device


def _fit_batch(training: TrainingConfig, num_images: int) -> int:
    """The batch size, or the largest one that fills a step from so few images.

    Raises:
        SettingsError: the batch does not divide among the processes, or the images do not fill any.
    """
    processes = world_size()
    if training.batch_size % processes:
        raise SettingsError(
            f"training.batch_size: {training.batch_size} does not divide among {processes} processes; "
            f"set {max(1, training.batch_size // processes) * processes}"
        )
    most = num_images // training.accumulate // processes * processes
    if most < 2 * processes:
        raise SettingsError(
            f"data: {num_images} images do not fill a step of {processes} processes and {training.accumulate} "
            "accumulated batches with two images each; give more images or lower training.accumulate"
        )
    return min(training.batch_size, most)


def _fit_data(recipe: Recipe) -> tuple[DataConfig, int]:
    data = recipe.data
    if data.store_size and recipe.encoder.image_size:
        return data, recipe.encoder.image_size
    store_size, image_size = fit_sizes(open_source(data.uri), recipe.encoder.image_size)
    return replace(data, store_size=data.store_size or store_size), image_size


def _open_in_turn(recipe: Recipe) -> ImageStore:
    """Open the store; the main process first, so that the others find its cache."""
    for turn in (True, False):
        if is_main() == turn:
            store = open_store(recipe.data.uri, recipe.data, recipe.data.store_size)
        barrier()
    return store
