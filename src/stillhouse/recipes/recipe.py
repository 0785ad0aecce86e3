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
from stillhouse.methods.table import find_method
from stillhouse.networks.build import EncoderConfig, check_name
from stillhouse.networks.foreign import TeacherConfig
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
    """Which run's networks a run begins from; nothing of it is needed once the run is over."""

    source: str = ""
    """A run directory; its encoder's settings are taken over. Empty begins from random weights."""
    digest: str = ""
    """Hash of the weights; filled in when training starts, and compared when it goes on."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Every setting of a run; `method` is an instance of the settings class of the method called `method_name`."""

    about: About = About()
    data: DataConfig
    encoder: EncoderConfig
    method_name: str
    method: Any
    training: TrainingConfig
    evaluation: EvaluationConfig
    start: StartConfig = StartConfig()
    """Where the first weights come from."""
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    """Read by methods that learn from a frozen teacher."""
    peer: EncoderConfig = field(default_factory=EncoderConfig)
    """Read by methods in which two networks learn together."""

    def to_table(self) -> Table:
        """The recipe as nested plain values, without the groups that its method does not read."""
        groups = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        name = groups.pop("method_name")
        for unread in COMPANIONS - {find_method(name).group}:
            del groups[unread]
        table = {key: to_table(group) for key, group in groups.items()}
        return {**table, "method": {"name": name, **table["method"]}}


_GROUPS: dict[str, type] = {
    "about": About,
    "data": DataConfig,
    "encoder": EncoderConfig,
    "training": TrainingConfig,
    "evaluation": EvaluationConfig,
    "start": StartConfig,
    "teacher": TeacherConfig,
    "peer": EncoderConfig,
}
COMPANIONS = {"teacher", "peer"}
"""Groups that only some methods read."""


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
        groups[name] = _checked(kind, table.get(name, {}), f"{name}.", problems)
    method_table = table.get("method", {})
    name = str(method_table.get("name", "")) if isinstance(method_table, dict) else ""
    try:
        entry = find_method(name)
        settings = {key: value for key, value in method_table.items() if key != "name"}
        groups["method"] = _checked(entry.config, settings, "method.", problems)
        problems += [
            f"{group}: {name} has no {group}; choose a method with one (`stillhouse methods`), or leave it out"
            for group in sorted(COMPANIONS - {entry.group})
            if table.get(group)
        ]
    except SettingsError as error:
        problems.append(str(error))
    try:
        check_name(groups["encoder"].name if groups["encoder"] else EncoderConfig.name)
    except SettingsError as error:
        problems.append(str(error))
    if problems:
        raise SettingsError("\n".join(problems))
    return Recipe(method_name=name, **groups)


def _checked(kind: type, table: Any, prefix: str, problems: list[str]) -> Any:
    if not isinstance(table, dict):
        problems.append(f"{prefix[:-1]}: {table!r} is a single value; write a group of settings")
        return None
    settings, found = check(kind, table, prefix)
    problems += found
    return settings


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
