"""What the group `method` of a recipe says: one method, or several that are added up over one encoder.

[method]                        [method]
name = "seed"                   name = "sum"
queue_size = 4096               methods = ["simclr", "seed"]
                                weights = [1.0, 0.5]
                                seed.queue_size = 4096
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any

from annotated_types import Gt
from torch import nn

from stillhouse.config import Table, check, to_table, unknown_key
from stillhouse.data.labels import Labels
from stillhouse.errors import SettingsError
from stillhouse.methods.method import Method
from stillhouse.methods.sum import Sum
from stillhouse.methods.table import METHODS, SUM, find_method
from stillhouse.networks.encoder import Encoder
from stillhouse.networks.teacher import FrozenTeacher

Companion = Encoder | FrozenTeacher | list[FrozenTeacher] | nn.Sequential | Labels
"""What a method may need beside the encoder it trains."""


@dataclass(frozen=True, kw_only=True)
class SumConfig:
    """Settings of a sum; those of each of its methods lie beside them, in a group of the method's name."""

    methods: tuple[str, ...] = ()
    """Two or more; the first one's encoder is kept."""
    weights: tuple[Annotated[float, Gt(0)], ...] = ()
    """Factor of each method's terms, in the order of `methods`; left out, all are 1."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One method; `config` is an instance of its settings class."""

    name: str
    config: Any
    weight: float = 1.0
    """Factor of its terms in a sum."""


@dataclass(frozen=True)
class Choice:
    """The methods of a recipe; more than one are a sum."""

    parts: tuple[Part, ...]

    @property
    def title(self) -> str:
        """Names of the methods, for people."""
        return " + ".join(part.name for part in self.parts)

    @property
    def companions(self) -> set[str]:
        """Kinds of what the methods need beside the encoder."""
        return {kind for part in self.parts for kind in find_method(part.name).companions}

    def key(self, part: Part) -> str:
        """Dotted name of the group in which a recipe keeps the settings of one of the methods."""
        return f"method.{part.name}" if len(self.parts) > 1 else "method"

    def fit(self, encoder: Encoder, num_images: int) -> "Choice":
        """The same methods, their settings with what follows from encoder and images written out.

        Raises:
            SettingsError: a setting does not go with the encoder or the images.
        """
        return Choice(tuple(replace(part, config=self._fitted(part, encoder, num_images)) for part in self.parts))

    def build(self, encoder: Encoder, companions: Mapping[str, Companion]) -> Method:
        """The method, or the sum of all, on this encoder; each gets the one of `companions` that it needs."""
        members = {}
        for part in self.parts:
            entry = find_method(part.name)
            beside = [companions[kind] for kind in entry.companions]
            with self._named(part):
                members[part.name] = entry.method(part.config, encoder, *beside)
        if len(members) == 1:
            return members[self.parts[0].name]
        return Sum(members, [part.weight for part in self.parts])

    def to_table(self) -> Table:
        """The group as nested plain values, from which `check_choice` reads the same choice."""
        if len(self.parts) == 1:
            return {"name": self.parts[0].name, **to_table(self.parts[0].config)}
        names, weights = zip(*((part.name, part.weight) for part in self.parts), strict=True)
        settings = {part.name: to_table(part.config) for part in self.parts}
        return {"name": SUM, **to_table(SumConfig(methods=names, weights=weights)), **settings}

    def _fitted(self, part: Part, encoder: Encoder, num_images: int) -> Any:
        config, key = part.config, self.key(part)
        if hasattr(config, "num_images"):  # it keeps something for each
            if config.num_images not in (0, num_images):
                raise SettingsError(
                    f"{key}.num_images: {config.num_images}, but there are {num_images} images; leave it out"
                )
            config = replace(config, num_images=num_images)
        with self._named(part):
            return config.fit(encoder)

    @contextmanager
    def _named(self, part: Part) -> Iterator[None]:
        """A method calls its settings `method.x`; an error that leaves here calls them as the recipe does."""
        try:
            yield
        except SettingsError as error:
            raise SettingsError(re.sub(r"\bmethod\.(?!name\b)", f"{self.key(part)}.", str(error))) from error


def check_choice(table: Any) -> tuple[Choice | None, list[str]]:
    """Read the group; gives the problems back, by dotted name, and nothing else when there are any."""
    if not isinstance(table, dict):
        return None, check(SumConfig, table, "method.")[1]
    settings = dict(table)
    name = str(settings.pop("name", ""))
    if name == SUM:
        return _check_sum(settings)
    try:
        config, problems = check(find_method(name, also=(SUM,)).config, settings, "method.")
    except SettingsError as error:
        return None, [str(error)]
    return (None, problems) if problems else (Choice((Part(name=name, config=config),)), [])


def _check_sum(table: Table) -> tuple[Choice | None, list[str]]:
    own = [field.name for field in fields(SumConfig)]
    config, problems = check(SumConfig, {key: table[key] for key in own if key in table}, "method.")
    names = config.methods if config else _names(table.get("methods"))
    weights = config.weights if config else ()
    problems += _wrong_names(names) if config or names else ()
    problems += _strangers([key for key in table if key not in own], own, names)
    if weights and len(weights) != len(names):
        problems.append(f"method.weights: {len(weights)} for {len(names)} methods; give each one, or leave them out")
    parts = []
    for name, weight in zip(names, weights or (1.0,) * len(names), strict=False):
        if name in METHODS:
            settings, found = check(METHODS[name].config, table.get(name, {}), f"method.{name}.")
            problems += found
            parts.append(Part(name=name, config=settings, weight=weight))
    return (None, problems) if problems else (Choice(tuple(parts)), [])


def _names(value: Any) -> tuple[str, ...]:
    """What of a list is text, so that more can be told where the list is wrong."""
    return tuple(name for name in value if isinstance(name, str)) if isinstance(value, list) else ()


def _wrong_names(names: tuple[str, ...]) -> Iterator[str]:
    if len(names) < 2:
        yield f"method.methods: {len(names)} named, and a sum has two or more; a single one is a method.name"
    for name in dict.fromkeys(names):
        if name == SUM:
            yield "method.methods: a sum inside a sum; name the methods of the inner one here"
            continue
        try:
            find_method(name, "method.methods")
        except SettingsError as error:
            yield str(error)
        if names.count(name) > 1:
            yield f"method.methods: {name} is named {names.count(name)} times; name it once, with a larger weight"


def _strangers(keys: list[str], own: list[str], names: tuple[str, ...]) -> Iterator[str]:
    """Keys beside a sum's own settings and the groups of its methods."""
    below = [f"{name}.{field.name}" for name in names if name in METHODS for field in fields(METHODS[name].config)]
    for key in keys:
        if key in METHODS and key not in names:
            yield f"method.{key}: {key} is none of method.methods; name it there, or leave its settings out"
        elif key not in names:
            yield unknown_key(key, [*own, *dict.fromkeys(names)], "method.", below)
