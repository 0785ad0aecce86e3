"""Beginning from other weights than random ones.

From another run: its encoder and, if asked, the first layers of its projection head. From a clone, a file of all that
learns in a method (`methods.travel.pack`): the whole method.
"""

import dataclasses
import hashlib
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from stillhouse.errors import RunError, SettingsError
from stillhouse.methods.method import Method
from stillhouse.methods.table import METHODS
from stillhouse.methods.travel import Weights, unpack
from stillhouse.networks.build import EncoderConfig, build_encoder
from stillhouse.networks.encoder import Encoder
from stillhouse.networks.foreign import digest_of
from stillhouse.networks.heads import first_layers, layer_widths, mlp
from stillhouse.networks.saved import load_encoder
from stillhouse.recipes.directory import Run
from stillhouse.recipes.recipe import Recipe, StartConfig, read_recipe
from stillhouse.training.checkpoint import read_checkpoint

CLONE = ".safetensors"
"""What the name of a clone ends in."""
HEAD = re.compile(r"(?:^|\.)student\.head\.\d+\.weight")
"""Layers of a head that was kept, by their names in a clone."""


@dataclass(frozen=True)
class Start:
    """What a run begins from; nothing stands for random weights."""

    encoder: Encoder | None = None
    head: nn.Sequential = field(default_factory=nn.Sequential)
    """The kept layers of the projection head."""
    clone: Weights = field(default_factory=dict)
    """All that learns in the method."""

    def give(self, method: Method) -> None:
        """Let a method that was made with encoder and head go on where the clone stands, if there is one.

        Raises:
            SettingsError: the clone is of another method.
        """
        if self.clone:
            try:
                unpack(method, self.clone)
            except RunError as error:
                raise SettingsError(f"start.source: not a clone of this recipe's method ({error})") from error


def begin(recipe: Recipe) -> tuple[Recipe, Start]:
    """What `recipe.start` names, and the recipe with the encoder's settings and the weights' hash written out.

    Raises:
        SettingsError: there is no such run, it has no such layers, its encoder is another one than the recipe names, or
            its weights changed since `start.digest` was written.
    """
    wanted = recipe.start
    wants_head = [part.config.head_layer for part in recipe.method.parts if "head" in METHODS[part.name].companions]
    count = max(wants_head, default=0)
    if not wanted.source:
        if count:
            raise SettingsError(
                f"start.source: none named, and method.head_layer keeps {count} layers of its head; pass "
                "--start RUN_DIRECTORY, or set method.head_layer=0 to learn from labels alone"
            )
        return recipe, Start()
    if wanted.source.endswith(CLONE):
        return _from_clone(recipe, count)
    try:
        config, encoder, head = _with_head(wanted, count) if count else _alone(wanted)
    except RunError as error:
        raise SettingsError(f"start.source: {error}") from error
    digest = _checked(wanted, digest_of(nn.ModuleList([encoder, head])))
    followed = replace(recipe, encoder=_follow(recipe.encoder, config), start=replace(wanted, digest=digest))
    return followed, Start(encoder.train(), head)


def absolute_start(config: StartConfig) -> StartConfig:
    """The same run, named so that it is found from any working directory."""
    return replace(config, source=str(Path(config.source).resolve())) if config.source else config


def _checked(start: StartConfig, digest: str) -> str:
    """The digest, unless another one is written down."""
    if start.digest not in ("", digest):
        raise SettingsError(
            f"start.source: the weights of {start.source} changed since this run began; put them back to go on"
        )
    return digest


def _from_clone(recipe: Recipe, count: int) -> tuple[Recipe, Start]:
    """All weights of the method; its encoder is the one that the recipe names, its head has the clone's widths."""
    wanted = recipe.start
    try:
        packed = Path(wanted.source).read_bytes()
        digest = _checked(wanted, hashlib.sha256(packed).hexdigest())
        clone = load(packed)
    except (OSError, SafetensorError, ValueError) as error:
        raise SettingsError(f"start.source: {wanted.source} cannot be read ({error}); fetch it again") from error
    kept = [value for name, value in clone.items() if HEAD.search(name) and value.ndim == 2]
    if len(kept) != count:
        raise SettingsError(
            f"method.head_layer: {count}, but {wanted.source} has {len(kept)} layers of a head; set {len(kept)}"
        )
    if not kept:
        return replace(recipe, start=replace(wanted, digest=digest)), Start(clone=clone)
    widths = [kept[0].shape[1], *(weight.shape[0] for weight in kept), 1]
    head = first_layers(mlp(widths, output_norm=False), count)
    return replace(recipe, start=replace(wanted, digest=digest)), Start(head=head, clone=clone)


def _alone(start: StartConfig) -> tuple[EncoderConfig, Encoder, nn.Sequential]:
    run = Run(Path(start.source))
    encoder, config = load_encoder(run.encoder_folder if run.encoder_folder.exists() else run.folder)
    return config, encoder, nn.Sequential()


def _with_head(start: StartConfig, count: int) -> tuple[EncoderConfig, Encoder, nn.Sequential]:
    """Encoder and layers of its head as the last checkpoint has them; the encoder's own folder lacks the head."""
    content = read_checkpoint(Run(Path(start.source)).checkpoints.last)
    recipe = read_recipe(content["recipe"])
    choice = recipe.method
    method = None if choice.companions else choice.build(build_encoder(recipe.encoder), {})
    if method is None or method.projector is None:
        raise SettingsError(
            f"start.source: {start.source} was trained by {choice.title}, which has no projection head to keep; "
            "set method.head_layer=0 to begin from its encoder alone"
        )
    most = len(layer_widths(method.projector)) - 1
    if count > most:
        raise SettingsError(
            f"method.head_layer: {count}, but the head of {start.source} has {most} hidden layers; set {most} or less"
        )
    method.load_state_dict(content["method"])
    return recipe.encoder, method.encoder, first_layers(method.projector, count)


def _follow(asked: EncoderConfig, found: EncoderConfig) -> EncoderConfig:
    """The encoder that was found, if what is asked for is left open or the same."""
    meant = replace(asked, name=found.name) if asked.name == EncoderConfig.name else asked
    meant = meant.fit(found.image_size)  # what a recipe says for other kinds of networks says nothing of this one
    for setting in dataclasses.fields(EncoderConfig):
        value, own = getattr(meant, setting.name), getattr(found, setting.name)
        if getattr(asked, setting.name) != setting.default and value != own:
            raise SettingsError(
                f"encoder.{setting.name}: {value!r}, but the run to begin from has {own!r}; leave it out to follow"
            )
    return found
