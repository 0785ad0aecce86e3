"""Training steps to compare: a shipped recipe's, the bare one of its encoder, and the same method's in the shortest loop."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from stillhouse.config import assign
from stillhouse.data.stream import Batch, ViewStream
from stillhouse.methods.method import Method
from stillhouse.networks.build import build_encoder
from stillhouse.recipes.recipe import Recipe, find_recipe, read_recipe
from stillhouse.recipes.run import Prepared, prepare
from stillhouse.training.optimizers import make_optimizer, set_learning_rate
from stillhouse.training.precision import autocast, torch_memory_format

Settings = Mapping[str, Any]

QUIET: Settings = {"evaluation.every": 0, "training.health_steps": 0, "training.checkpoint_steps": 1_000_000}
"""Only steps: no watching in between, and no checkpoint but the last."""


def prepared(recipe: str, data: str, settings: Settings) -> Prepared:
    """A shipped recipe on these images, with everything that follows from them written out."""
    table = find_recipe(recipe)
    for name, value in {"data.uri": data, **QUIET, **settings}.items():
        table = assign(table, name, value)
    return prepare(read_recipe(table))


def lasting(steps: int, images: int, settings: Settings) -> Settings:
    """The settings with the number of epochs that makes so many steps."""
    return {**QUIET, **settings, "training.epochs": steps / (images // settings["training.batch_size"])}


def views(run: Prepared, batches: int = 1) -> list[Batch]:
    """The first batches of a run."""
    training = run.recipe.training
    store = run.store.to(run.device) if run.device.type == "cuda" else run.store
    stream = ViewStream(
        store=store,
        plan=run.method.views,
        image_size=run.recipe.encoder.image_size,
        batch_size=training.batch_size,
        seed=training.seed,
    )
    arriving = stream.batches(0)
    return [next(arriving) for _ in range(batches)]


def bare_step(run: Prepared) -> Callable[[], None]:
    """Forward, backward and fused AdamW of the run's encoder alone on fixed views, in the run's precision and layout."""
    recipe, layout = run.recipe, torch_memory_format(run.recipe.training.memory_format)
    encoder = build_encoder(recipe.encoder, recipe.training.seed).to(run.device, memory_format=layout)  # type: ignore[call-overload]
    images = torch.cat(views(run)[0].views).contiguous(memory_format=layout)
    optimizer = optimizer_of(recipe, encoder)

    def step() -> None:
        with autocast(recipe.training.precision, run.device):
            loss = encoder(images).float().square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def method_step(run: Prepared, batch: Batch) -> Callable[[], None]:
    """A whole step of the run's method on fixed views: heads, teacher, loss and optimizer, but no images to fetch."""
    layout = torch_memory_format(run.recipe.training.memory_format)
    method: Method = run.method.to(run.device, memory_format=layout)  # type: ignore[call-overload]
    optimizer = optimizer_of(run.recipe, method)

    def step() -> None:
        with autocast(run.recipe.training.precision, run.device):
            terms = method(batch, 0.5)
        sum(terms.values()).backward()  # type: ignore[union-attr]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        method.after_step(0.5)

    return step


def optimizer_of(recipe: Recipe, module: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimizer at a learning rate that moves, but not far."""
    training = recipe.training
    optimizer = make_optimizer(
        training.optimizer,
        module,
        weight_decay=training.weight_decay,
        momentum=training.momentum,
        decay_all=training.decay_all,
    )
    set_learning_rate(optimizer, 1e-5)
    return optimizer
