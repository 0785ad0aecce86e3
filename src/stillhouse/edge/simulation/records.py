"""What a run leaves behind: one JSON object a line, in the order of virtual time; whole once the last kind is `end`."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stillhouse.files import write_atomically

Record = Mapping[str, Any]
"""Has `kind` and `time`, in virtual seconds, and what belongs to its kind; see docs/edge-simulation.md."""


def line(record: Record) -> str:
    """The record as JSON, what is not finite as null."""
    return json.dumps(_plain(record)) + "\n"


def write_records(path: Path, records: list[Record]) -> None:
    """Write a whole run, or nothing; `RunError` where the disk refuses."""
    write_atomically(path, "".join(map(line, records)))


def is_whole(path: Path) -> bool:
    """Whether a run lies there from its start to its end."""
    try:
        *_, last = path.read_text().splitlines()
        return bool(json.loads(last)["kind"] == "end")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
