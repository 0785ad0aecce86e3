"""From the files of a run directory to `RunFacts`; nothing in them is executed or unpickled."""

import json
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError

from stillhouse.errors import RunError
from stillhouse.report.atlas import read_atlas
from stillhouse.report.evaluated import Evaluation
from stillhouse.report.facts import KNN, Health, RunFacts, Samples, Step
from stillhouse.report.values import Tree

Line = TypeVar("Line", Step, Health, KNN)

LINES: dict[str, TypeAdapter[Any]] = {"step": TypeAdapter(Step), "health": TypeAdapter(Health), "knn": TypeAdapter(KNN)}
NO_SAMPLES = Samples(originals=np.zeros((0, 1, 1, 3), np.uint8), views=np.zeros((0, 0, 1, 1, 3), np.uint8))


def read_run(directory: Path) -> RunFacts:
    """Read whatever a run has written so far.

    Raises:
        RunError: there is no such directory, it holds no run, or one of its files is damaged.
    """
    if not directory.is_dir():
        raise RunError(f"{directory}: no such run directory; check the path")
    if not any((directory / name).is_file() for name in ("recipe.toml", "log.jsonl", "evaluation.json")):
        raise RunError(f"{directory}: no recipe.toml, log.jsonl or evaluation.json in it; name the directory of a run")
    recipe = _read_recipe(directory / "recipe.toml")
    labels_hidden = setting(recipe, "data.labels") is False
    log = _read_log(directory / "log.jsonl")
    evaluation = _read_evaluation(directory / "evaluation.json")
    return RunFacts(
        name=directory.resolve().name,
        recipe=recipe,
        steps=_of(Step, log),
        health=_of(Health, log),
        knn=() if labels_hidden else _of(KNN, log),
        evaluation=evaluation if evaluation.data.classes else replace(evaluation, results=()),
        samples=_read_samples(directory / "samples.npz"),
        atlas=read_atlas(directory / "atlas.npz", labelled=bool(evaluation.data.classes) and not labels_hidden),
        quarantine=_read_quarantine(directory / "quarantine.txt"),
        card=_read_object(directory / "encoder" / "card.json"),
        labels_hidden=labels_hidden,
    )


def setting(tree: Tree, name: str) -> Any:
    """The value at a dotted name, `""` where there is none."""
    value: Any = tree
    for part in name.split("."):
        value = value.get(part, "") if isinstance(value, dict) else ""
    return value


def _of(kind: type[Line], log: list[Any]) -> tuple[Line, ...]:
    by_step = {line.step: line for line in log if isinstance(line, kind)}  # a resumed run repeats steps: the last wins
    return tuple(by_step[step] for step in sorted(by_step))


def content(path: Path) -> bytes:
    """Content of a file, empty if there is none."""
    try:
        return path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def _read_recipe(path: Path) -> Tree:
    try:
        return tomllib.loads(content(path).decode())
    except ValueError as error:  # of the decoder and of the TOML reader
        raise RunError(
            f"{path}: is not readable TOML ({error}); restore it from the run's backup or checkpoint"
        ) from error


def _read_object(path: Path) -> Tree:
    try:
        value = json.loads(content(path) or b"{}")
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: is not readable JSON ({error}); write it again or delete it") from error
    if not isinstance(value, dict):
        raise RunError(f"{path}: holds {type(value).__name__} instead of an object; write it again or delete it")
    return value


def _read_evaluation(path: Path) -> Evaluation:
    written = _read_object(path)
    try:
        return TypeAdapter(Evaluation).validate_python({**written, "measures": written.get("protocols", {})})
    except ValidationError as error:
        raise RunError(f"{path}: {first_problem(error)}; evaluate again or delete the file") from error


def _read_log(path: Path) -> list[Step | Health | KNN]:
    """Known lines in the order of the file; an unreadable last line is one that a crash or a running write left."""
    lines = [(number, line) for number, line in enumerate(content(path).split(b"\n"), 1) if line.strip()]
    return list(_parsed(path, lines))


def _parsed(path: Path, lines: list[tuple[int, bytes]]) -> Iterator[Step | Health | KNN]:
    for number, line in lines:
        try:
            entry = json.loads(line)
            if not isinstance(entry, dict):
                raise ValueError("not an object")
            if (kind := entry.get("kind")) in LINES:  # other kinds are for other readers
                yield LINES[kind].validate_python(entry)
        except ValidationError as error:
            raise RunError(f"{path}, line {number}: {first_problem(error)}; correct or delete this line") from error
        except (ValueError, RecursionError) as error:
            if number != lines[-1][0]:
                raise RunError(f"{path}, line {number}: unreadable ({error}); delete this line") from error


def first_problem(error: ValidationError) -> str:
    """What is wrong at which place, in one line."""
    problem = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, problem['loc'])) or 'content'}: {problem['msg'].lower()}"


def _read_quarantine(path: Path) -> tuple[str, ...]:
    lines = content(path).decode(errors="replace").splitlines()
    return tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))


def _read_samples(path: Path) -> Samples:
    if not path.exists():
        return NO_SAMPLES
    try:
        with np.load(path, allow_pickle=False) as arrays:
            samples = Samples(originals=arrays["originals"], views=arrays["views"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"{path}: cannot be read ({error}); delete it to have a page without samples") from error
    first, second = samples.originals, samples.views
    if not first.dtype == second.dtype == np.uint8 or first.ndim != 4 or second.ndim != 5:
        raise RunError(
            f"{path}: expected uint8 [N, H, W, 3] and [V, N, h, w, 3]; delete it to have a page without samples"
        )
    if (first.shape[3], *second.shape[1::3]) != (3, len(first), 3) or 0 in first.shape or 0 in second.shape:
        raise RunError(
            f"{path}: shapes {first.shape} and {second.shape} do not fit; delete it to have a page without samples"
        )
    return samples
