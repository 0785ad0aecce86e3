"""A recipe: every setting of a run, as a TOML file says it and as the code uses it."""

import dataclasses
import difflib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from stillhouse.config import Table, check, merge, parse_toml, to_table
from stillhouse.data.store import DataConfig
from stillhouse.errors import SettingsError
from stillhouse.evaluation.config import EvaluationConfig
from stillhouse.methods.choice import Choice, check_choice
from stillhouse.networks.build import EncoderConfig, check_name
from stillhouse.networks.several_teachers import TeachersConfig
from stillhouse.training.settings import TrainingConfig


@dataclass(frozen=True, kw_only=True)
class About:
    """What a recipe is for; words only."""

    summary: str = ""
    source: str = ""
    """Paper and, where the numbers are ours, who chose them."""
    expected: str = ""
    """What it reached, on what, in how long, measured by which command."""


@dataclass(frozen=True, kw_only=True)
class StartConfig:
    """Which networks a run begins from; nothing of it is needed once the run is over."""

    source: str = ""
    """A run directory, whose encoder's settings are taken over, or a clone (`.safetensors`) of this very method. Empty
    begins from random weights."""
    digest: str = ""
    """Hash of the weights; filled in when training starts, and compared when it goes on."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Every setting of a run."""

    about: About = About()
    data: DataConfig
    encoder: EncoderConfig
    method: Choice
    training: TrainingConfig
    evaluation: EvaluationConfig
    start: StartConfig = StartConfig()
    """Where the first weights come from."""
    teacher: TeachersConfig = field(default_factory=TeachersConfig)
    """Read by methods that learn from a frozen teacher, or from several."""
    peer: EncoderConfig = field(default_factory=EncoderConfig)
    """Read by methods in which two networks learn together."""

    def to_table(self) -> Table:
        """The recipe as nested plain values, without the groups that its method does not read."""
        unread = _unread(self.method)
        read = [field.name for field in dataclasses.fields(self) if field.name not in unread]
        return {name: to_table(getattr(self, name)) for name in read} | {"method": self.method.to_table()}


_GROUPS: dict[str, type] = {
    "about": About,
    "data": DataConfig,
    "encoder": EncoderConfig,
    "training": TrainingConfig,
    "evaluation": EvaluationConfig,
    "start": StartConfig,
    "teacher": TeachersConfig,
    "peer": EncoderConfig,
}
COMPANIONS = {"teacher": {"teacher", "teachers"}, "peer": {"peer"}}
"""Groups that only some methods read, and the kinds of companions that they describe."""


def _unread(method: Choice) -> list[str]:
    return [group for group, kinds in COMPANIONS.items() if not kinds & method.companions]


def read_recipe(table: Table) -> Recipe:
    """Check a table and make the recipe of it.

    Raises:
        SettingsError: lists every unknown key, with the nearest known one, and every wrong value.
    """
    problems = [
        f"{key}: no such group; did you mean {difflib.get_close_matches(key, [*_GROUPS, 'method'], 1, 0.0)[0]}?"
        for key in table
        if key not in _GROUPS and key != "method"
    ]
    groups: dict[str, Any] = {}
    for name, kind in _GROUPS.items():
        groups[name], found = check(kind, table.get(name, {}), f"{name}.")
        problems += found
    method, found = check_choice(table.get("method", {}))
    problems += found
    if method:
        problems += [
            f"{group}: {method.title} has no {group}; choose a method with one (`stillhouse methods`), or leave it out"
            for group in _unread(method)
            if table.get(group)
        ]
        if groups["teacher"] and groups["teacher"].more and "teacher" in method.companions:
            problems.append(f"teacher.more: {method.title} learns from one teacher; name only one, or choose crd")
        if groups["teacher"] and groups["teacher"].more and groups["teacher"].cache != "off":
            problems.append("teacher.cache: answers of one teacher are kept, and there are several; set it to off")
    try:
        check_name(groups["encoder"].name if groups["encoder"] else EncoderConfig.name)
    except SettingsError as error:
        problems.append(str(error))
    if problems or method is None:
        raise SettingsError("\n".join(problems))
    return Recipe(method=method, **groups)


def shipped_recipes() -> dict[str, Table]:
    """All recipes inside the package, by name."""
    folder = resources.files("stillhouse.recipes") / "shipped"
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".toml")), key=lambda entry: entry.name)
    return {entry.name.removesuffix(".toml"): parse_toml(entry.read_text(), entry.name) for entry in files}


def find_recipe(name: str, above: tuple[str, ...] = ()) -> Table:
    """The table of a shipped recipe, or of a .toml file.

    A file may start from another recipe: `base = "sdssl-mocov3"` in its first line, then only what differs. A base that
    is a file lies beside the file that names it.

    Args:
        name: of the recipe, or path of the file.
        above: files that are waiting for this one as their base.

    Raises:
        SettingsError: there is no such recipe or file.
    """
    shipped = shipped_recipes()
    if name in shipped:
        return shipped[name]
    if not name.endswith(".toml"):
        near = difflib.get_close_matches(name, shipped, 1, 0.0)[0]
        raise SettingsError(
            f"recipe {name}: not shipped; did you mean {near}? (shipped: {', '.join(shipped)}; or give a .toml file)"
        )
    try:
        table = parse_toml(Path(name).read_text(encoding="utf-8-sig"), name)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{name}: cannot be read ({error}); check the path") from error
    base = str(table.pop("base", ""))
    if not base:
        return table
    path = str(Path(name).parent / base) if base.endswith(".toml") else base
    if path in (*above, name):
        raise SettingsError(f"{name}: base {base} leads back to itself; name a shipped recipe or another file")
    return merge(find_recipe(path, (*above, name)), table)
