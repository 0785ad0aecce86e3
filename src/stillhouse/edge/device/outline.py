"""What a recipe would build, and whether it is what the clone holds: known before anything large is allocated."""

from collections.abc import Mapping

import torch
from torch import Size

from stillhouse.data.labels import Labels
from stillhouse.data.sources import open_source
from stillhouse.data.store import fit_sizes
from stillhouse.errors import SettingsError
from stillhouse.methods.choice import Choice, Companion
from stillhouse.methods.method import Method
from stillhouse.methods.travel import travelling_names
from stillhouse.networks.build import build_encoder
from stillhouse.recipes.recipe import Recipe
from stillhouse.recipes.starting import begin

MOST_BESIDE = 2**30
"""Bytes that moving averages, queues and the like may take beside as many as the clone has."""


def outline(recipe: Recipe) -> Method:
    """The method of a visit, its tensors with shapes and no memory behind them.

    Args:
        recipe: begins from a clone, which is a file of the size that was promised.

    Raises:
        SettingsError: it would build something else than the clone holds, or far more beside it.
    """
    recipe, start = begin(recipe)
    sent = {name: value.shape for name, value in start.clone.items()}
    _check_depth(recipe.method, len(sent))
    size = recipe.encoder.image_size or fit_sizes(open_source(recipe.data.uri), 0)[1]
    companions: dict[str, Companion] = {"labels": Labels(torch.zeros(2, dtype=torch.int64), recipe.data.classes)}
    with torch.device("meta"), torch.random.fork_rng([]):
        encoder = build_encoder(recipe.encoder.fit(size), recipe.training.seed)
        if "peer" in recipe.method.companions:
            companions["peer"] = build_encoder(recipe.peer.fit(size), recipe.training.seed + 1)
        companions["head"] = start.head.to("meta")
        method = recipe.method.fit(encoder, 2).build(encoder, companions)
    _check_shapes(method, sent)
    return method


def _check_depth(choice: Choice, tensors: int) -> None:
    """No head has more layers than the clone has tensors, or only counting them would take for ever."""
    for part in choice.parts:
        for name, value in vars(part.config).items():
            if name.endswith("_layers") and isinstance(value, int) and value > tensors:
                raise _unlike(f"{choice.key(part)}.{name} is {value}, and the clone has {tensors} tensors")


def _check_shapes(method: Method, sent: Mapping[str, Size]) -> None:
    state = method.state_dict()
    built = {name: state[name].shape for name in travelling_names(method)}
    for name in sorted(built.keys() | sent.keys()):
        found, wanted = (list(shapes[name]) if name in shapes else "nothing" for shapes in (built, sent))
        if found != wanted:
            raise _unlike(f"it builds {found} for {name[:100]}, and the clone has {wanted}")
    own = sum(state[name].nbytes for name in built)
    beside = sum(value.nbytes for value in state.values()) - own
    if beside > own + MOST_BESIDE:
        raise _unlike(f"it wants {beside / 2**20:,.0f} MiB beside the {own / 2**20:,.0f} MiB of the clone")


def _unlike(found: str) -> SettingsError:
    return SettingsError(f"the core's recipe does not suit its clone: {found}; nothing is trained, tell its owner")
