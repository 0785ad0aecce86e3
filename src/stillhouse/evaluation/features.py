"""One pass over a store gives the vectors of every depth.

Letters: N images, D_l width after block l.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stillhouse.data.augment import center_view
from stillhouse.data.store import ImageStore
from stillhouse.errors import TrainingError
from stillhouse.networks.encoder import Encoder, device_of, undisturbed

Share = Callable[[float], None]
"""Told the share of the work that is done, in (0, 1]."""


@dataclass(frozen=True)
class LayerFeatures:
    """Frozen vectors of N images at every depth, on the device of the encoder."""

    blocks: tuple[Tensor, ...]
    """Float32, one `[N, D_l]` per block."""
    labels: Tensor
    """Int64 `[N]`, -1 unknown."""
    kept: Tensor
    """Which of the rows asked for these are, int64 `[N]` on the CPU: all but images that turned out unreadable."""


def extract(
    encoder: Encoder,
    store: ImageStore,
    rows: Tensor | None = None,
    *,
    batch_size: int = 512,
    bf16: bool = False,
    progress: Share = lambda share: None,
) -> LayerFeatures:
    """Vectors of the central view of stored images; the encoder and the random state are left as they were found.

    Args:
        encoder: network to read, on any device.
        store: images.
        rows: int64 `[N]`, which images and in which order; all without it.
        batch_size: images per forward pass.
        bf16: autocast of the forward pass; the result is float32 all the same.
        progress: told the share done after every batch.

    Raises:
        TrainingError: the encoder gives a value that is not finite.
    """
    rows = torch.arange(len(store)) if rows is None else rows
    device = device_of(encoder)
    blocks = [torch.empty(len(rows), dim, device=device) for dim in encoder.block_dims]
    labels, kept = [torch.empty(0, dtype=torch.int64, device=device)], [torch.empty(0, dtype=torch.int64)]
    count = 0
    for found in stream(encoder, store, rows, batch_size=batch_size, bf16=bf16, progress=progress):
        stop = count + len(found.kept)
        for block, vectors in zip(blocks, found.blocks, strict=True):
            block[count:stop] = vectors
        labels.append(found.labels)
        kept.append(found.kept)
        count = stop
    return LayerFeatures(tuple(block[:count] for block in blocks), torch.cat(labels), torch.cat(kept))


def stream(
    encoder: Encoder,
    store: ImageStore,
    rows: Tensor | None = None,
    *,
    batch_size: int = 512,
    bf16: bool = False,
    progress: Share = lambda share: None,
) -> Iterator[LayerFeatures]:
    """What `extract` gives, batch by batch, so that memory does not grow with the number of images.

    `kept` counts in `rows` as a whole. Arguments and errors are those of `extract`.
    """
    rows = torch.arange(len(store)) if rows is None else rows
    device = device_of(encoder)
    chunks = torch.split(rows, batch_size)
    pixels = (center_view(batch, encoder.image_size) for batch in store.batches(chunks))
    start = 0
    for chunk, blocks in zip(chunks, forward(encoder, pixels, bf16=bf16), strict=True):
        blocks = tuple(block.float() for block in blocks)
        refuse_broken(blocks)
        kept = _readable(store, chunk)
        if len(kept) < len(chunk):
            blocks = tuple(block[kept.to(device)] for block in blocks)
        yield LayerFeatures(blocks, store.labels[chunk[kept]].to(device), kept + start)
        start += len(chunk)
        progress(start / len(rows))


def forward(encoder: Encoder, batches: Iterable[Tensor], *, bf16: bool = False) -> Iterator[tuple[Tensor, ...]]:
    """Vectors of every block for each batch of images `[B, 3, H, W]` in [0, 1], in evaluation mode without gradient."""
    device = device_of(encoder)
    for images in batches:
        with undisturbed(encoder), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            blocks = encoder.features(images.to(device, non_blocking=True)).blocks
        yield blocks


def _readable(store: ImageStore, rows: Tensor) -> Tensor:
    """Places in `rows` of images that are what they claim to be; a store puts another in the place of a bad one."""
    bad = {entry.id for entry in store.rejected}
    if not bad:
        return torch.arange(len(rows))
    return torch.tensor(
        [place for place, row in enumerate(rows.tolist()) if store.ids[row] not in bad], dtype=torch.int64
    )


def refuse_broken(blocks: Sequence[Tensor]) -> None:
    """Raise `TrainingError` when a vector of any block, `[B, D_l]` each, is not finite."""
    for number, block in enumerate(blocks, start=1):
        if not torch.isfinite(block.sum()):
            found = (~torch.isfinite(block)).any(dim=1).sum().item()
            if found:
                raise TrainingError(
                    f"encoder, block {number}: vectors of {found} images are not finite; "
                    "train again with a lower learning rate or evaluate an earlier checkpoint"
                )
