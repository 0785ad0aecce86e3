"""What exported networks and the live one cost, each measured in a process of its own, one after the other."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stillhouse.errors import RunError
from stillhouse.export.exits import output_name
from stillhouse.export.original import read_table
from stillhouse.export.placing import is_export
from stillhouse.export.running import Runner, open_runner
from stillhouse.networks.saved import CARD

SECONDS = 2.0
"""Time for which calls of one size are repeated."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One network: all outputs of a file, or one depth of a live encoder, cut there."""

    path: str
    format: str
    """`onnx`, `timm`, `torch`, or `live`."""
    precision: str
    outputs: tuple[str, ...]
    """Names of the vectors that it gives."""
    size_bytes: int
    milliseconds: dict[str, dict[str, float]]
    """By the images of a batch, `1` and `32`: `median` and `p90` of the time of a call."""
    peak_bytes: int
    """Most memory of the process, with Python and the library that runs the network."""
    threads: int


def measure(path: Path, exits: Sequence[int] = (), threads: int = 1, seconds: float = SECONDS) -> list[Cost]:
    """Time a file or folder; a live encoder at each of some depths.

    Args:
        path: as in `open_runner`.
        exits: depths of a live encoder; all without any.
        threads: that each may use.
        seconds: for which calls of one size are repeated.

    Raises:
        SettingsError, RunError: it is nothing that can be run.
    """
    runner = open_runner(path, threads)
    if runner.format != "live":
        return [_cost(_file(path), 0, runner, runner.outputs, _precision(path), threads, seconds)]
    depths = sorted(set(exits)) or range(1, len(runner.outputs) + 1)
    return [_cost(path, depth, runner, (output_name(depth),), "float32", threads, seconds) for depth in depths]


def _cost(
    path: Path, depth: int, runner: Runner, names: tuple[str, ...], precision: str, threads: int, seconds: float
) -> Cost:
    program = [sys.executable, "-m", "stillhouse.export.clock", str(path), str(depth), str(threads), str(seconds)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    if done.returncode:
        told = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RunError(f"{path}: its process failed ({told}); export it again")
    found = json.loads(done.stdout.splitlines()[-1])
    return Cost(
        path=runner.name,
        format=runner.format,
        precision=precision,
        outputs=names,
        size_bytes=runner.size_bytes,
        milliseconds=found["milliseconds"],
        peak_bytes=found["peak_bytes"],
        threads=threads,
    )


def _file(path: Path) -> Path:
    """The file of ONNX inside an export, which needs no torch; anything else as it is."""
    if is_export(path) and (card := read_table(path / CARD))["format"] == "onnx":
        return path / str(card["file"])
    return path


def _precision(path: Path) -> str:
    """Where a card beside the file tells it."""
    folder = path if path.is_dir() else path.parent
    return str(read_table(folder / CARD).get("precision", "")) if is_export(folder) else ""
