"""What training says while it runs: log.jsonl, and whoever else listens."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from stillhouse.errors import RunError, SettingsError
from stillhouse.files import write_atomically

Record = Mapping[str, Any]

GLIMPSE = "glimpse"
"""Kind of a record that is for whoever watches now, and for no file."""
NOTE = "note"
"""Kind of a record that is a `sentence` about what goes on beside the steps."""


class Listener(Protocol):
    """Hears every record: steps, health, scores."""

    def hear(self, record: Record) -> None:
        """Take in one record; `record["kind"]` says what it is."""

    def close(self) -> None:
        """Nothing more will come."""


class LogFile:
    """log.jsonl: one JSON object per line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (open as long as the run)
        except OSError as error:
            raise RunError(f"{path}: cannot be written ({error}); choose another place") from error

    def hear(self, record: Record) -> None:
        """Append the record; numbers that JSON cannot say become null."""
        if record["kind"] == GLIMPSE:
            return
        try:
            self._file.write(json.dumps(_finite(record), allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise RunError(f"{self.path}: cannot be written ({error}); free space, then resume") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def cut_log(path: Path, step: int) -> None:
    """Drop the lines beyond `step`: a run that is resumed there writes them again.

    Raises:
        RunError: the disk refuses.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error}); move it away to resume") from error
    if lines:
        write_atomically(path, b"".join(line for line in lines if _is_until(line, step)))


def _is_until(line: bytes, step: int) -> bool:
    try:
        return line.endswith(b"\n") and int(json.loads(line)["step"]) <= step
    except (ValueError, KeyError, TypeError, OverflowError):
        return False  # torn by a crash


class TensorBoard:
    """The same numbers as TensorBoard events.

    Raises:
        SettingsError: the package is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise SettingsError(
                "training.tensorboard: tensorboard is not installed; pip install 'stillhouse[tensorboard]'"
            ) from error
        self._writer = SummaryWriter(str(folder))

    def hear(self, record: Record) -> None:
        """Write every number of the record under its kind and name."""
        if record["kind"] == GLIMPSE:
            return
        for name, value in _numbers(record, str(record["kind"])):
            self._writer.add_scalar(name, value, record["step"])

    def close(self) -> None:
        """Write what is pending."""
        self._writer.close()


def _numbers(value: Any, name: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(inner, f"{name}/{key}") if key != "step" else ()
    elif isinstance(value, (list, tuple)):
        for place, inner in enumerate(value, start=1):
            yield from _numbers(inner, f"{name}/{place}")
    elif isinstance(value, (int, float)):
        yield name, float(value)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
