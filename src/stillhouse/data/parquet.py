"""Images in parquet files, in the Hugging Face layout: `image {bytes, path}` and an optional `label`."""

import json
import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stillhouse.data.decode import BadImage
from stillhouse.data.sources import Rejected, Source, digest, encode_labels, stat_parts
from stillhouse.errors import DataError

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "fine_label")
HELD_BYTES = 128 * 2**20


@dataclass(frozen=True)
class _Layout:
    """Where one set of files keeps what."""

    image: str
    nested: bool
    has_path: bool
    label: str
    names: tuple[str, ...]


class ParquetSource(Source):
    """Rows of parquet files, in the order of the files.

    The row groups read last are held, up to 128 MiB: reading in order touches every group once.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = tuple(files)
        self._open: dict[Path, pq.ParquetFile] = {}
        self._held: OrderedDict[tuple[Path, int], pa.ChunkedArray] = OrderedDict()
        with _readable(self.files[0]):
            self._fingerprint = digest(["parquet", *(part for file in self.files for part in stat_parts(file))])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}, "_held": OrderedDict()}

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        return ()

    @cached_property
    def ids(self) -> Sequence[str]:
        """The stored paths where they tell all images apart, else file name and row."""
        if self._layout.has_path:
            paths = self._column(f"{self._layout.image}.path", nested="path")
            if None not in paths and len(set(paths)) == len(paths):
                return paths
        rows = [(file.name, self._file(file).metadata.num_rows) for file in self.files]
        return [f"{name}:{row}" for name, count in rows for row in range(count)]

    @cached_property
    def _encoded(self) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        layout = self._layout
        if not layout.label:
            return np.full(len(self), -1, dtype=np.int64), ()
        values = [_class_of(value) for value in self._column(layout.label)]
        if not layout.names:
            return encode_labels([None if value is None else str(value) for value in values])
        known = {name: number for number, name in enumerate(layout.names)}
        numbers = (known.get(value, -1) if isinstance(value, str) else value for value in values)
        labels = np.array([-1 if number is None else number for number in numbers], dtype=np.int64)
        return np.where((labels >= 0) & (labels < len(known)), labels, -1), layout.names

    @property
    def labels(self) -> NDArray[np.int64]:
        return self._encoded[0]

    @property
    def classes(self) -> tuple[str, ...]:
        return self._encoded[1]

    def read(self, position: int) -> bytes:
        group = int(np.searchsorted(self._starts, position, side="right")) - 1
        file, number = self._groups[group]
        try:
            content = self._row_group(file, number)[position - int(self._starts[group])].as_py()
        except pa.ArrowException as error:
            raise BadImage(f"row group {number} of {file.name} is broken: {error}") from error
        except DataError as error:  # the file was there when it was listed
            raise OSError(str(error)) from error
        if content is None:
            raise BadImage("the row holds no bytes")
        return bytes(content)

    @cached_property
    def _layout(self) -> _Layout:
        file = self.files[0]
        schema = self._file(file).schema_arrow
        image = next((name for name in IMAGE_COLUMNS if name in schema.names and _holds_bytes(schema.field(name))), "")
        if not image:
            raise DataError(
                f"data: {str(file)!r} has no image column (columns: {', '.join(schema.names)}); "
                "name it image, of type binary or {bytes, path}"
            )
        kind = schema.field(image).type
        nested = bool(pa.types.is_struct(kind))
        has_path = nested and kind.get_field_index("path") >= 0
        label = next((name for name in LABEL_COLUMNS if name in schema.names and _is_label(schema.field(name))), "")
        return _Layout(image, nested, has_path, label, _class_names(schema, label))

    @cached_property
    def _groups(self) -> list[tuple[Path, int]]:
        return [(file, group) for file in self.files for group in range(self._file(file).num_row_groups)]

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """Position of the first row of each group, and the number of all rows."""
        assert self._layout  # a file without images is refused before its rows are counted
        rows = [self._file(file).metadata.row_group(group).num_rows for file, group in self._groups]
        if not sum(rows):
            raise DataError(f"data: {str(self.files[0])!r} holds no rows; check the path")
        return np.cumsum([0, *rows], dtype=np.int64)

    def _file(self, file: Path) -> pq.ParquetFile:
        if file not in self._open:
            with _readable(file):
                self._open[file] = pq.ParquetFile(file)
        return self._open[file]

    def _row_group(self, file: Path, number: int) -> pa.ChunkedArray:
        key = (file, number)
        if key not in self._held:
            name = f"{self._layout.image}.bytes" if self._layout.nested else self._layout.image
            table = self._file(file).read_row_group(number, columns=[name], use_threads=False)
            self._held[key] = _field(table.column(0), "bytes") if self._layout.nested else table.column(0)
            while len(self._held) > 1 and sum(column.nbytes for column in self._held.values()) > HELD_BYTES:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        return self._held[key]

    def _column(self, name: str, nested: str = "") -> list[Any]:
        values: list[Any] = []
        for file in self.files:
            with _readable(file):
                column = self._file(file).read(columns=[name], use_threads=False).column(0)
            values += (_field(column, nested) if nested else column).to_pylist()
        return values


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, IndexError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"data: {str(file)!r} is no readable parquet file ({reason}); fetch it again") from error


def _holds_bytes(field: pa.Field) -> bool:
    kind = field.type
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _holds_bytes(kind.field(index))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_label(field: pa.Field) -> bool:
    kind = field.type
    texts, numbers = pa.types.is_string(kind) or pa.types.is_large_string(kind), pa.types.is_integer(kind)
    return bool(texts or numbers or pa.types.is_boolean(kind) or pa.types.is_floating(kind))


def _class_of(value: Any) -> Any:
    """The value as a class: whole floats are numbers (as pandas writes integers with gaps), NaN is unknown."""
    if isinstance(value, float):
        return None if math.isnan(value) else int(value) if value.is_integer() else value
    return int(value) if isinstance(value, bool) else value


def _field(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    return column.flatten()[column.type.get_field_index(name)]  # null where the struct is


def _class_names(schema: pa.Schema, label: str) -> tuple[str, ...]:
    """Class names that the Hugging Face metadata of the schema gives for the label column, if any."""
    try:
        described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = described["info"]["features"][label]["names"]
    except (ValueError, KeyError, TypeError):
        return ()
    ordered = [names[key] for key in sorted(names, key=int)] if isinstance(names, dict) else names
    return tuple(str(name) for name in ordered)
