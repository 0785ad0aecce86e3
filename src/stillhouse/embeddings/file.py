"""Embeddings as a parquet file: one row per readable image, and in the schema how the vectors were made.

Columns: `id` (string), `embedding` (list of D numbers), and `label` (string, null where unknown) where there are any.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from stillhouse.data.store import DataConfig, write_quarantine
from stillhouse.embeddings.reader import Part, Reader
from stillhouse.errors import DataError, SettingsError
from stillhouse.evaluation.features import Share
from stillhouse.files import write_atomically

KEY = b"stillhouse"
TOLD = "encoder_sha256", "exit", "dim", "preprocessing"
"""What must be the same for two vectors to be comparable."""
GROUP_ROWS = 4096

Dtype = Literal["float32", "float16"]


@dataclass(frozen=True)
class Written:
    """What came of `embed`."""

    images: int
    skipped: int
    """Images that could not be read."""
    quarantine: Path
    """Where those are listed; no file if there are none."""


def embed(
    reader: Reader,
    uri: str,
    out: Path,
    *,
    dtype: Dtype = "float32",
    config: DataConfig = DataConfig(cache="none"),  # noqa: B008 (frozen)
    progress: Share = lambda share: None,
) -> Written:
    """Write the vectors of all images behind a URI; only a few thousand are held at a time.

    Args:
        reader: encoder and exit.
        uri: images.
        out: parquet file, replaced if it is there.
        dtype: of the numbers in the file.
        config: which of the images are used; pixels that are read once are not worth a cache.
        progress: told the share done.

    Raises:
        DataError: no image can be read.
        SettingsError: a value is too large for float16.
        TrainingError: the encoder gives a value that is not finite.
        RunError: the disk refuses.
    """
    store = reader.open(uri, config)
    labelled = bool((store.labels >= 0).any())
    about = json.dumps(reader.about() | {"dtype": dtype})
    schema = _schema(reader.dim, dtype, labelled).with_metadata({KEY: about.encode()})
    count = 0

    def write(file: BinaryIO) -> None:
        nonlocal count
        with pq.ParquetWriter(file, schema) as writer:
            for part in _grouped(reader.parts(store, progress)):
                writer.write_table(_table(part, schema))
                count += len(part.ids)

    write_atomically(out, write)
    quarantine = out.with_name(f"{out.name}.quarantine.txt")
    quarantine.unlink(missing_ok=True)
    if store.rejected:
        write_quarantine(quarantine, store.rejected)
    return Written(count, len(store.rejected), quarantine)


@dataclass(frozen=True)
class EmbeddingsFile:
    """A file that `embed` wrote, read a few thousand rows at a time."""

    path: Path

    @cached_property
    def about(self) -> dict[str, Any]:
        """How the vectors were made; `DataError` when the file is damaged or not one of ours."""
        with _readable(self.path):
            schema = pq.read_schema(self.path)
            about = json.loads((schema.metadata or {}).get(KEY, b"null"))
            if not isinstance(about, dict) or not (
                {"id", "embedding"} <= set(schema.names) and set(TOLD) <= set(about)
            ):
                raise ValueError("it does not say which encoder made it")
            return about

    @property
    def store_size(self) -> int:
        """Side in pixels that the images were squashed to."""
        return int(self.about["preprocessing"]["store_size"])

    def parts(self) -> Iterator[Part]:
        """Its rows in their order; `DataError` when the file is damaged."""
        with _readable(self.path):
            about, file, start = self.about, pq.ParquetFile(self.path), 0
            for number in range(file.num_row_groups):
                group = file.read_row_group(number)
                column = group.column("embedding").combine_chunks()
                values = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
                labels = group.column("label").to_pylist() if "label" in group.column_names else [None] * len(group)
                vectors = torch.from_numpy(values).view(len(group), int(about["dim"]))
                if not vectors.isfinite().all():
                    raise ValueError(f"row group {number} holds a value that is not finite")
                yield Part([*range(start, start + len(group))], group.column("id").to_pylist(), vectors, labels)
                start += len(group)

    def check_made_by(self, reader: Reader) -> None:
        """Raise `SettingsError` when another encoder, exit or preparation made these vectors."""
        ours = reader.about()
        for key in TOLD:
            if self.about[key] != ours[key]:
                raise SettingsError(
                    f"{self.path}: made with {key} {self.about[key]}, but the query's encoder has {ours[key]}; "
                    "name the encoder that made the file, or write the file again with `stillhouse embed`"
                )


def _schema(dim: int, dtype: Dtype, labelled: bool) -> pa.Schema:
    number = pa.float16() if dtype == "float16" else pa.float32()
    fields = [pa.field("id", pa.string(), nullable=False)]
    fields.append(pa.field("embedding", pa.list_(pa.field("item", number), dim), nullable=False))
    return pa.schema(fields + ([pa.field("label", pa.string())] if labelled else []))


def _grouped(parts: Iterable[Part]) -> Iterator[Part]:
    """The same images in parts of `GROUP_ROWS` or a little more; the last may be smaller."""
    waiting: list[Part] = []
    for part in parts:
        waiting.append(part)
        if sum(len(part.ids) for part in waiting) >= GROUP_ROWS:
            yield _joined(waiting)
            waiting = []
    if waiting:
        yield _joined(waiting)


def _joined(parts: list[Part]) -> Part:
    return Part(
        [row for part in parts for row in part.rows],
        [id_ for part in parts for id_ in part.ids],
        torch.cat([part.vectors for part in parts]),
        [label for part in parts for label in part.labels],
    )


def _table(part: Part, schema: pa.Schema) -> pa.Table:
    kind = schema.field("embedding").type
    number = kind.value_type.to_pandas_dtype()
    largest = part.vectors.abs().max().item()
    if largest > float(np.finfo(number).max):
        raise SettingsError(f"--dtype float16: a value of {largest:g} is beyond its 65504; choose float32")
    values = part.vectors.flatten().numpy().astype(number)
    columns = [pa.array(part.ids, pa.string()), pa.FixedSizeListArray.from_arrays(pa.array(values), type=kind)]
    return pa.Table.from_arrays(columns + [pa.array(part.labels, pa.string())] * (len(schema) == 3), schema=schema)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"embeddings {str(path)!r}: no such file; check the path") from error
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise DataError(
            f"embeddings {str(path)!r}: cannot be read ({str(error).splitlines()[0]}); write it with `stillhouse embed`"
        ) from error
