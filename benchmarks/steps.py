"""Training steps to compare: the bare one of an encoder, and that of a method around it, written by hand."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from stillhouse.config import assign
from stillhouse.data.stream import Batch, ViewStream
from stillhouse.methods.method import Method
from stillhouse.networks.build import build_encoder
from stillhouse.networks.teacher import FrozenTeacher
from stillhouse.recipes.preparing import Prepared, prepare
from stillhouse.recipes.recipe import Recipe, find_recipe, read_recipe
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


def stream_of(run: Prepared) -> ViewStream:
    """The batches that training would see, without answers of a teacher."""
    training = run.recipe.training
    store = run.store.to(run.device) if run.device.type == "cuda" else run.store
    return ViewStream(
        store=store,
        plan=run.method.views,
        image_size=run.recipe.encoder.image_size,
        batch_size=training.batch_size,
        seed=training.seed,
        ahead=8 if run.device.type == "cuda" else 1,
    )


def batches_of(run: Prepared) -> Iterator[Batch]:
    """The batches that training would see, from the first on."""
    return stream_of(run).batches(0)


def bare_step(run: Prepared) -> Callable[[], None]:
    """Forward, backward and fused optimizer of the run's encoder alone on fixed views, in its precision and layout.

    A frozen teacher is one of the networks, so its forward pass on the same views belongs to the bare step.
    """
    recipe, layout = run.recipe, torch_memory_format(run.recipe.training.memory_format)
    encoder = build_encoder(recipe.encoder, recipe.training.seed).to(run.device, memory_format=layout)  # type: ignore[call-overload]
    images = torch.cat(next(batches_of(run)).views).contiguous(memory_format=layout)
    optimizer = optimizer_of(recipe, encoder)
    teachers = [module for module in run.method.modules() if isinstance(module, FrozenTeacher)]

    def step() -> None:
        with autocast(recipe.training.precision, run.device):
            for teacher in teachers:
                teacher(images)
            loss = encoder(images).float().square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def method_step(run: Prepared, batches: Iterator[Batch]) -> Callable[[], Tensor]:
    """A whole step of the run's method, as one would write it by hand: views, networks, loss, optimizer, teacher.

    Each call returns the loss.
    """
    layout = torch_memory_format(run.recipe.training.memory_format)
    method: Method = run.method.to(run.device, memory_format=layout)  # type: ignore[call-overload]
    optimizer = optimizer_of(run.recipe, method)

    def step() -> Tensor:
        with autocast(run.recipe.training.precision, run.device):
            terms = method(next(batches), 0.5)
        loss = torch.stack(list(terms.values())).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        method.after_step(0.5)
        return loss.detach()

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
