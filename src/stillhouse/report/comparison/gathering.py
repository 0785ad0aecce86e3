"""Which runs are compared, what they are called, and what keeps their numbers from being compared."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse.errors import RunError
from stillhouse.report.charts import GROUP_COLORS
from stillhouse.report.facts import RunFacts
from stillhouse.report.read import read_run


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One of the runs; `name` is its own among them, `color` that of its lines, dashed from the eleventh run on."""

    name: str
    facts: RunFacts
    color: str
    dash: str


def gather(folders: Sequence[Path]) -> tuple[Compared, ...]:
    """Read all runs, in the order given.

    Raises:
        RunError: fewer than two, one that is no run or damaged, or one that is named twice.
    """
    if len(folders) < 2:
        raise RunError(f"compare: found {len(folders)} run to compare; name two or more, for instance runs/a runs/b")
    places: dict[Path, Path] = {}
    for folder in folders:
        place = folder.resolve()
        if place in places:
            raise RunError(f"compare: {places[place]} and {folder} are the same run; name each once")
        places[place] = folder
    names = _names(list(places))
    return tuple(
        Compared(
            name=name,
            facts=read_run(folder),
            color=GROUP_COLORS[number % len(GROUP_COLORS)],
            dash="solid" if number < len(GROUP_COLORS) else "dash",
        )
        for number, (name, folder) in enumerate(zip(names, folders, strict=True))
    )


def cautions(runs: Sequence[Compared]) -> list[str]:
    """Sentences about what keeps scores from being compared; none where nothing does."""
    told = []
    missing = [run.name for run in runs if not run.facts.evaluation.results]
    if missing:
        told.append(f"No accuracy was measured of {_listed(missing)}: `stillhouse evaluate` does.")
    judged = [run for run in runs if run.facts.evaluation.results]
    for what, value in KINDS.items():
        if len(kinds := _kinds(judged, value)) > 1:
            parts = "; ".join(f"{_listed(names)}: {kind}" for kind, names in kinds.items())
            told.append(f"Scores are of different {what} and not to be compared across them: {parts}.")
    for run in runs:
        judged_as, kept = run.facts.evaluation.encoder.get("weights_sha256"), run.facts.card.get("sha256")
        if judged_as and kept and judged_as != kept:
            told.append(f"{run.name} was trained on since it was evaluated: evaluate it again.")
    weights = _kinds(runs, lambda run: str(run.facts.card.get("sha256") or ""))
    told += [f"{_listed(names)} hold the same weights." for kind, names in weights.items() if kind and len(names) > 1]
    return told


def _test(run: Compared) -> str:
    data = run.facts.evaluation.data
    return f"{data.test or 'unnamed'} ({data.test_images:,} images, {len(data.classes)} classes)"


def _train(run: Compared) -> str:
    data = run.facts.evaluation.data
    return f"{data.train or 'unnamed'} ({data.train_images:,} images)"


KINDS: dict[str, Callable[[Compared], str]] = {"test images": _test, "labelled images": _train}


def comparable(runs: Sequence[Compared]) -> bool:
    """Whether all that were judged were judged by the same images."""
    judged = [run for run in runs if run.facts.evaluation.results]
    return all(len(_kinds(judged, value)) == 1 for value in KINDS.values())


def _kinds(runs: Sequence[Compared], value: Callable[[Compared], str]) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {}
    for run in runs:
        kinds.setdefault(value(run), []).append(run.name)
    return kinds


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _names(places: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell all of them apart."""
    longest = max(len(place.parts) for place in places)
    for count in range(1, longest + 1):
        names = ["/".join(place.parts[-count:]) for place in places]
        if len(set(names)) == len(names):
            return names
    return [str(place) for place in places]


def different_settings(runs: Sequence[Compared]) -> dict[str, tuple[Any, ...]]:
    """Dotted names of the settings in which the recipes differ, with each run's value; `None` where it has none."""
    flat = [dict(_leaves(run.facts.recipe, "")) for run in runs]
    names = dict.fromkeys(name for leaves in flat for name in leaves)
    found = {name: tuple(leaves.get(name) for leaves in flat) for name in names if not name.startswith("about.")}
    return {name: values for name, values in found.items() if any(not _same(value, values[0]) for value in values)}


def _same(value: Any, other: Any) -> bool:
    if isinstance(value, float) and isinstance(other, float) and math.isnan(value) and math.isnan(other):
        return True
    return type(value) is type(other) and bool(value == other)


def _leaves(tree: Any, prefix: str) -> list[tuple[str, Any]]:
    if isinstance(tree, dict):
        return [
            leaf for key, value in tree.items() for leaf in _leaves(value, f"{prefix}.{key}" if prefix else str(key))
        ]
    if isinstance(tree, list) and tree and all(isinstance(each, dict) for each in tree):
        return [leaf for number, value in enumerate(tree) for leaf in _leaves(value, f"{prefix}[{number}]")]
    return [(prefix, tree)]
