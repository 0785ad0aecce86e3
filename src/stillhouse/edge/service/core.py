"""What a core is: `core.toml` and the weights it begins from, made once from a run directory.

data = "images/"       what the server itself learns from
[service]              where it listens
[leases]               terms for devices
[web]                  what a device may ask of the line
[lesson]               settings of the learning
[recipe]               the recipe of the run, as devices are told it
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import safetensors.torch
import torch
from annotated_types import Interval, Len

from stillhouse.config import Table, assign, check, parse_toml, to_table, to_toml
from stillhouse.data.sources import absolute
from stillhouse.edge.lesson import Lesson, State
from stillhouse.edge.service.folder import StateFolder, read_weights
from stillhouse.edge.service.leases import LeaseConfig
from stillhouse.edge.service.rates import WebConfig
from stillhouse.errors import RunError, SettingsError
from stillhouse.files import write_atomically
from stillhouse.methods.travel import pack, travelling_names, unpack
from stillhouse.recipes.directory import Run
from stillhouse.recipes.preparing import prepare
from stillhouse.training.checkpoint import read_checkpoint

MARK = "# The core of a stillhouse edge service. Stop the service before you change anything.\n"
TOLD = ("encoder", "method", "training", "peer")
TOLD_OF_DATA = ("store_size", "classes")
Port = Annotated[int, Interval(ge=0, le=65535)]


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """Where the service is found."""

    names: Annotated[tuple[str, ...], Len(1)] = ("localhost", "127.0.0.1")
    """Hosts and addresses that devices reach it by; the certificate is for these. The first one is in invitations."""
    host: str = "0.0.0.0"
    """Address to listen at."""
    port: Port = 8443
    page_port: Port = 8444
    """Of the status page, on this machine alone."""
    database: str = ""
    """URL of SQLAlchemy; empty is a file in the state folder."""
    files: str = ""
    """URI of a store of fsspec, such as s3://bucket/prefix, where versions and returns are kept beside the state
    folder."""

    @property
    def url(self) -> str:
        """Where devices find it."""
        host = f"[{self.names[0]}]" if ":" in self.names[0] else self.names[0]
        return f"https://{host}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class CoreFile:
    """The content of `core.toml`."""

    data: str
    recipe: Mapping[str, Any]
    service: ServiceConfig = ServiceConfig()
    leases: LeaseConfig = field(default_factory=LeaseConfig)
    web: WebConfig = field(default_factory=WebConfig)
    lesson: Mapping[str, Any] = field(default_factory=dict)
    """Read by the lesson itself."""

    @property
    def told(self) -> Table:
        """What devices are told of the recipe: how to train, and nothing of the server's images and files."""
        table = {group: self.recipe[group] for group in TOLD if group in self.recipe}
        data = self.recipe.get("data", {})
        return table | {"data": {key: data[key] for key in TOLD_OF_DATA if key in data}}


@dataclass(frozen=True)
class Beginning:
    """What a lesson is made from."""

    recipe: Table
    """Of the run that the core begins from, with the server's images, as nested plain values."""
    settings: Table
    """Of the lesson, as nested plain values."""
    weights: State
    """That the core begins from, as `travel.pack` gave them."""


LessonFactory = Callable[[Beginning], Lesson]


def create_core(
    path: Path,
    run: Path,
    data: str,
    settings: Mapping[str, Any],
    check_lesson: Callable[[Mapping[str, Any]], object],
) -> CoreFile:
    """Make the state folder's `core.toml` and first weights from a run directory.

    Args:
        path: state folder.
        run: what the core begins from.
        data: URI of the images that the server learns from.
        settings: dotted names to values in `service`, `leases`, `web` and `lesson`.
        check_lesson: raises `SettingsError` where the settings of the lesson are wrong.

    Raises:
        SettingsError, DataError: a setting or the images are wrong.
        RunError: the run has no checkpoint, or the folder holds a core already.
    """
    folder = StateFolder(path)
    if folder.core_file.exists():
        raise RunError(f"{path}: holds a core already; serve it with `stillhouse edge serve {path}` or choose another")
    recipe, weights = _packed(Run(run), absolute(data))
    table: Table = {"data": absolute(data), "recipe": recipe}
    for name, value in settings.items():
        if name.partition(".")[0] not in ("service", "leases", "web", "lesson"):
            raise SettingsError(f"--set {name}: only service.*, leases.*, web.* and lesson.* can be set here")
        table = assign(table, name, value)
    known = _read(table)
    check_lesson(known.lesson)
    folder.make()
    write_atomically(folder.start_file, safetensors.torch.save(dict(weights)))
    write_atomically(folder.core_file, MARK + to_toml(to_table(known)))
    return known


def read_core(path: Path) -> CoreFile:
    """The content of a state folder's `core.toml`; `RunError` or `SettingsError` where it is absent or wrong."""
    file = StateFolder(path).core_file
    try:
        return _read(parse_toml(file.read_text(), str(file)))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: not a state folder ({error}); make one with `stillhouse edge init`") from error


def open_lesson(path: Path, make: LessonFactory) -> Lesson:
    """The lesson of a state folder.

    Args:
        path: state folder.
        make: makes the lesson.
    """
    known, start = read_core(path), StateFolder(path).start_file
    recipe = {**known.recipe, "start": {"source": str(start.resolve())}}  # the run's own start may be gone by now
    return make(Beginning(recipe, dict(known.lesson), read_weights(start)))


def _read(table: Table) -> CoreFile:
    others = {name: table.get(name, {}) for name in ("recipe", "lesson")}  # read by whom they concern
    known, problems = check(CoreFile, {**table, **{name: {} for name in others}})
    problems += [
        f"{name}: must be a group of settings" for name, group in others.items() if not isinstance(group, dict)
    ]
    if known is None or problems:
        raise SettingsError("\n".join(problems))
    known.leases.check()
    return replace(known, recipe=others["recipe"], lesson=others["lesson"])


def _packed(run: Run, data: str) -> tuple[Table, State]:
    """Recipe of a run, for images of the server, and what travels of its last checkpoint."""
    recipe = run.read_recipe()
    with torch.random.fork_rng([]):
        prepared = prepare(replace(recipe, data=replace(recipe.data, uri=data)))
    trained = read_checkpoint(run.checkpoints.last)["method"]
    names = travelling_names(prepared.method)
    if absent := sorted(set(names) - set(trained)):
        raise RunError(f"{run.folder}: its checkpoint lacks {absent[0]}; begin from a run of this version")
    unpack(prepared.method, {name: trained[name] for name in names})
    return prepared.recipe.to_table(), pack(prepared.method)
