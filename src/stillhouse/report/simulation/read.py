"""From the record files of a simulation to a `Study`; nothing in them is executed."""

import json
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from stillhouse.errors import RunError
from stillhouse.report.read import content, first_problem
from stillhouse.report.simulation.records import End, Lesson, Moved, Run, Start, Study, Visit
from stillhouse.report.values import Tree

Line = Start | Moved | Visit | Lesson | End

LINES: dict[str, TypeAdapter[Any]] = {
    "start": TypeAdapter(Start),
    "joined": TypeAdapter(Moved),
    "left": TypeAdapter(Moved),
    "visit": TypeAdapter(Visit),
    "lesson": TypeAdapter(Lesson),
    "end": TypeAdapter(End),
}

ROUNDING = 1e-5  # seconds by which written times may be off


def read_study(folder: Path) -> Study:
    """Read the runs that are complete.

    Raises:
        RunError: there is no folder, no complete run in it, two files are of one run, or a file is damaged.
    """
    files = sorted(folder.glob("runs/*/*.jsonl"))
    if not files:
        raise RunError(f"{folder}: no runs/CONTESTANT/SEED.jsonl in it; name the folder of a simulation")
    read = {path: _read_run(path) for path in files}
    complete = {path: run for path, run in read.items() if isinstance(run, Run)}
    if not complete:
        raise RunError(f"{folder}: none of its {len(files)} runs is complete; let the simulation go on")
    _check_alike(complete)
    settings = _read_settings(folder / "scenario.toml")
    runs = tuple(complete.values())
    begun = [f"{path.parent.name} {path.stem}" for path in files if path not in complete]
    there = {f"{run.start.contestant} {run.start.seed}" for run in runs}
    missing = tuple(dict.fromkeys([*(name for name in _planned(settings) if name not in there), *begun]))
    return Study(folder.resolve().name, runs, missing, settings)


def _planned(settings: Tree) -> list[str]:
    """Every contestant with every seed."""
    contestants, seeds = settings.get("contestants"), settings.get("seeds")
    if not isinstance(contestants, dict) or not isinstance(seeds, int):
        return []
    return [f"{name} {seed}" for name in contestants for seed in range(seeds)]


def _check_alike(runs: dict[Path, Run]) -> None:
    """No run is there twice, and all are of one scenario."""
    first, known = next(iter(runs)), dict[tuple[str, int], Path]()
    for path, run in runs.items():
        key = (run.start.contestant, run.start.seed)
        if (other := known.setdefault(key, path)) != path:
            raise RunError(f"{path}: the same contestant and seed as in {other}; delete one of them")
        if (run.start.scenario, len(run.recalls)) != (runs[first].start.scenario, len(runs[first].recalls)):
            raise RunError(f"{path}: of another scenario than {first}; give every scenario a folder of its own")


def _read_settings(path: Path) -> Tree:
    try:
        return tomllib.loads(content(path).decode())
    except ValueError as error:  # of the decoder and of the TOML reader
        raise RunError(f"{path}: is not readable TOML ({error}); write it again or delete it") from error


def _read_run(path: Path) -> Run | None:
    """A run, or nothing while its end is missing."""
    found = list(_parsed(path))
    if not found:
        return None
    (number, start), (_, end) = found[0], found[-1]
    if not isinstance(start, Start):
        raise RunError(f"{path}, line {number}: not of kind start; delete the file and run it again")
    _check_order(path, start, found)
    events = tuple(line for _, line in found if isinstance(line, Moved | Visit | Lesson))
    return Run(start, events, end) if isinstance(end, End) else None


def _check_order(path: Path, start: Start, found: list[tuple[int, Line]]) -> None:
    """Every line fits the first one and the one before it."""
    users, last = {user.name for user in start.users}, found[-1][0]
    for (_, before), (number, line) in pairwise(found):
        problem = ""
        if line.time < before.time:
            problem = f"time {line.time:g} after {before.time:g}"
        elif isinstance(line, Start):
            problem = "a second start"
        elif isinstance(line, End) and number != last:
            problem = "an end that is not the last line"
        elif isinstance(line, Visit | Moved) and line.user not in users:
            problem = "a user whom the first line does not name"
        elif isinstance(line, Visit) and line.sent > line.time + ROUNDING:
            problem = "decided before it was sent"
        elif isinstance(line, Lesson) and len(line.recalls) != len(start.recalls):
            problem = f"{len(line.recalls)} recalls where the first line has {len(start.recalls)}"
        if problem:
            raise RunError(f"{path}, line {number}: {problem}; delete the file and run it again")


def _parsed(path: Path) -> Iterator[tuple[int, Line]]:
    """Numbered lines; an unreadable last one is what a crash or a running write left."""
    lines = [(number, line) for number, line in enumerate(content(path).split(b"\n"), 1) if line.strip()]
    for number, line in lines:
        try:
            entry = json.loads(line)
            if not isinstance(entry, dict):
                raise ValueError("not an object")
            if (kind := str(entry.get("kind"))) in LINES:  # other kinds are for other readers
                yield number, LINES[kind].validate_python(entry)
        except ValidationError as error:
            raise RunError(
                f"{path}, line {number}: {first_problem(error)}; delete the file and run it again"
            ) from error
        except (ValueError, RecursionError) as error:
            if number != lines[-1][0]:
                raise RunError(
                    f"{path}, line {number}: unreadable ({error}); delete the file and run it again"
                ) from error
