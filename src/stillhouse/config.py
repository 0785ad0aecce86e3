"""Settings: frozen dataclass trees, read from TOML, checked all at once, written back.

A settings class is a frozen dataclass whose fields carry types (with bounds from `annotated_types`) and defaults. Its
tree and a table of TOML are the same thing.
"""

import dataclasses
import difflib
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast, get_type_hints

import tomli_w
from pydantic import TypeAdapter, ValidationError

from stillhouse.errors import SettingsError

Table = dict[str, Any]
T = TypeVar("T")


def parse_toml(text: str, where: str) -> Table:
    """Read TOML.

    Raises:
        SettingsError: the text is not TOML; says where.
    """
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError(f"{where}: not valid TOML ({error}); correct that line") from error


def parse_assignment(assignment: str) -> tuple[str, Any]:
    """Split `a.b=value`; the value is read as TOML, and as plain text when it is no TOML.

    Raises:
        SettingsError: there is no `=` or no name before it.
    """
    name, equals, value = assignment.partition("=")
    name, value = name.strip(), value.strip()
    if not (equals and name):
        raise SettingsError(f"--set {assignment}: no setting and value found; write --set training.epochs=100")
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return name, value


def assign(table: Table, name: str, value: Any) -> Table:
    """A copy of `table` in which the dotted `name` is `value`; a number steps into a list."""
    head, _, rest = name.partition(".")
    copy = dict(table)
    if not rest:
        copy[head] = value
        return copy
    inner = copy.get(head, {})
    if isinstance(inner, list) and rest.partition(".")[0].isdecimal():
        position, _, below = rest.partition(".")
        if int(position) >= len(inner):
            raise SettingsError(f"{name}: {head} has {len(inner)} entries; count from 0 to {len(inner) - 1}")
        entries = list(inner)
        if below and not isinstance(entries[int(position)], dict):
            raise SettingsError(f"{name}: entry {position} is a single value; set the whole entry")
        entries[int(position)] = assign(entries[int(position)], below, value) if below else value
        copy[head] = entries
        return copy
    if not isinstance(inner, dict):
        raise SettingsError(f"{name}: {head} is a single value ({inner!r}), not a group of settings; set {head} itself")
    copy[head] = assign(inner, rest, value)
    return copy


def merge(base: Table, change: Mapping[str, Any]) -> Table:
    """`base` with the tables of `change` laid over it, group by group."""
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def build(kind: type[T], table: Table, prefix: str = "") -> T:
    """Make the settings `kind` out of a table.

    Raises:
        SettingsError: lists every unknown key, with the nearest known one, and every wrong value, by dotted name.
    """
    settings, problems = check(kind, table, prefix)
    if problems:
        raise SettingsError("\n".join(problems))
    return cast(T, settings)


def check(kind: type[T], table: Any, prefix: str = "") -> tuple[T | None, list[str]]:
    """Like `build`, but gives the problems back; the settings are None when there are any."""
    if not isinstance(table, dict):
        return None, [f"{prefix.rstrip('.')}: {table!r} is a single value; write a group of settings"]
    problems = list(_unknown_keys(kind, table, prefix))
    try:
        settings = TypeAdapter(kind).validate_python(table)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            name = ".".join([prefix.rstrip("."), *map(str, detail["loc"])]).lstrip(".")
            problems.append(f"{name}: {detail['msg'].lower()}, found {detail['input']!r}")
        return None, problems
    problems += [f"{name}: must be finite, found {value}" for name, value in _not_finite(to_table(settings), prefix)]
    return (None, problems) if problems else (settings, [])


def unknown_key(key: str, known: Sequence[str], prefix: str = "", below: Sequence[str] = ()) -> str:
    """What to say of a key that is none of the known ones.

    Args:
        key: as it was found.
        known: keys that the group has.
        prefix: dotted name of the group, with its last dot.
        below: dotted names of what groups inside the group have, which may have been meant, too.
    """
    near = difflib.get_close_matches(key, [*known, *below], 1, 0.4) or sorted(known)
    return f"{prefix}{key}: no such setting; did you mean {prefix}{near[0]}? (known: {', '.join(known)})"


def to_table(settings: Any) -> Table:
    """The settings as nested plain values (dict, list, str, int, float, bool)."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        if isinstance(value, Mapping):
            return {str(key): plain(inner) for key, inner in value.items()}
        return [plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value

    return cast(Table, plain(settings))


def to_toml(table: Table) -> str:
    """Write nested plain values as TOML that `parse_toml` reads back to the same table."""
    return tomli_w.dumps(table)


def differences(old: Table, new: Table) -> list[str]:
    """Dotted names whose values differ, with both values; empty when the tables are equal."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    names = sorted(before.keys() | after.keys())
    return [
        f"{name}: {before.get(name, 'absent')!r} became {after.get(name, 'absent')!r}"
        for name in names
        if before.get(name, _ABSENT) != after.get(name, _ABSENT)
    ]


_ABSENT = object()


def _unknown_keys(kind: Any, table: Any, prefix: str) -> Iterator[str]:
    if not (dataclasses.is_dataclass(kind) and isinstance(table, dict)):
        return
    hints = get_type_hints(kind)
    known = [field.name for field in dataclasses.fields(kind)]
    for key, value in table.items():
        if key not in known:
            yield unknown_key(key, known, prefix)
        elif isinstance(value, dict):
            yield from _unknown_keys(hints[key], value, f"{prefix}{key}.")
        elif isinstance(value, list):
            entry = next((a for a in getattr(hints[key], "__args__", ()) if dataclasses.is_dataclass(a)), None)
            for position, inner in enumerate(value):
                yield from _unknown_keys(entry, inner, f"{prefix}{key}.{position}.")


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        for position, inner in enumerate(value):
            yield from _leaves(inner, f"{name}.{position}")
    else:
        yield name, value


def _not_finite(table: Table, prefix: str) -> Iterator[tuple[str, float]]:
    for name, value in _leaves(table):
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                yield f"{prefix}{name}", number
