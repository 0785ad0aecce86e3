"""Measurements that are no accuracy per block, as `evaluation.json` holds them under `protocols`.

What is absent, or in a form that this page does not know, is not drawn; `unknown` names the latter.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, TypeAdapter, ValidationError

from stillhouse.report.values import Number, Tree

Kind = TypeVar("Kind")


def _square(rows: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
    if not rows or any(len(row) != len(rows) for row in rows):
        raise ValueError("is not square")
    return rows


Square = Annotated[tuple[tuple[Number, ...], ...], AfterValidator(_square)]


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """How many test images of each class (rows) were taken for which (columns)."""

    classes: tuple[str, ...]
    counts: Square

    def __post_init__(self) -> None:
        if len(self.classes) != len(self.counts):
            raise ValueError("as many classes as rows are needed")


@dataclass(frozen=True, kw_only=True)
class Exit:
    """Leaving at one depth; `milliseconds` per image."""

    block: int
    accuracy: Number
    milliseconds: Number = math.nan


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Leaving where the head is sure enough; `mean_depth` in blocks."""

    mean_depth: Number
    accuracy: Number
    milliseconds: Number = math.nan


@dataclass(frozen=True, kw_only=True)
class Exits:
    """Accuracy against cost, by depth and by confidence."""

    depths: tuple[Exit, ...]
    curve: tuple[Mixture, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """CKA of every pair of blocks."""

    blocks: Square


@dataclass(frozen=True, kw_only=True)
class Corruptions:
    """Accuracy by the name of a corruption, from its mildest severity on."""

    accuracy: dict[str, tuple[Number, ...]]
    clean: Number = math.nan

    def __post_init__(self) -> None:
        if len({len(values) for values in self.accuracy.values()}) != 1:
            raise ValueError("every corruption needs as many severities")


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """Measures by name: of the last block, or one for each block."""

    values: dict[str, tuple[float, ...]] = field(default_factory=dict)


SPECTRA = ("rankme", "alpha", "lidar")  # measures of the spectrum that are drawn


def found(measures: Tree, name: str, kind: type[Kind]) -> tuple[Kind, ...]:
    """One measurement, or none."""
    try:
        return (TypeAdapter(kind).validate_python(measures[name]),)
    except (KeyError, ValidationError):
        return ()


def confusions(measures: Tree) -> dict[str, Confusion]:
    """Confusion by the name of what was confused; the name is empty where there is but one."""
    if whole := found(measures, "confusion", Confusion):
        return {"": whole[0]}
    inside = measures.get("confusion", {})
    names = inside if isinstance(inside, dict) else {}
    return {name: each for name in names for each in found(names, name, Confusion)}


def spectrum(measures: Tree) -> Spectrum:
    """The measures of the spectrum; none without any."""
    inside = measures.get("spectrum", {})
    return Spectrum(values=dict(_numbers(inside)) if isinstance(inside, dict) else {})


def _numbers(tree: dict[str, Any]) -> Iterator[tuple[str, tuple[float, ...]]]:
    for name, value in tree.items():
        listed = value if isinstance(value, list) else [value]
        if name in SPECTRA and listed and all(type(each) in (int, float, type(None)) for each in listed):
            yield name, tuple(math.nan if each is None else float(each) for each in listed)


def unknown(measures: Tree) -> dict[str, Any]:
    """Measurements that have no chart, by name."""
    drawn = {
        "confusion": confusions(measures),
        "exits": found(measures, "exits", Exits),
        "cka": found(measures, "cka", Likeness),
        "corruptions": found(measures, "corruptions", Corruptions),
        "spectrum": spectrum(measures).values,
    }
    return {name: value for name, value in measures.items() if not drawn.get(name)}
