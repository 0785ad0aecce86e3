"""How losses over many pairs keep their memory small: some rows at a time."""

from collections.abc import Iterator

from torch import Tensor

CHUNK_SIZE = 128
"""Rows of logits that a CPU works on at once: a strip should stay in its cache."""


def strips(rows: Tensor) -> Iterator[slice]:
    """Parts of the rows that are worked on together; larger ones on an accelerator, where starting work is dear."""
    size = CHUNK_SIZE if rows.device.type == "cpu" else 16 * CHUNK_SIZE
    for start in range(0, len(rows), size):
        yield slice(start, min(start + size, len(rows)))
