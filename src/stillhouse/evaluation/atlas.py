"""What a picture of the embedding needs: small images, flat maps of a few depths, and who lies next to whom.

Letters: N images, L depths, D width, Q queries, K neighbours of each, S side of a small image in pixels.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import orthogonal_procrustes
from torch import Tensor, nn

from stillhouse.data.store import ImageStore
from stillhouse.evaluation.features import Share, extract
from stillhouse.evaluation.sheet import contact_sheet
from stillhouse.evaluation.task import Task
from stillhouse.networks.encoder import Encoder

QUERIES, NEIGHBOURS = 12, 8
PERPLEXITY, ITERATIONS = 30.0, 500
LEAST = 8
"""Fewer images make no map."""


@dataclass(frozen=True, kw_only=True)
class Atlas:
    """N images as `atlas.npz` holds them; plain arrays, nothing that is executed when they are read."""

    ids: NDArray[np.str_]
    """Names, `[N]`."""
    labels: NDArray[np.int64]
    """Place in `classes`, `[N]`; -1 where unknown or hidden."""
    classes: NDArray[np.str_]
    """Names; none where labels are unknown or hidden."""
    sheet: NDArray[np.uint8]
    """One WebP file: all small images squashed to S x S, row after row, `columns` in each."""
    columns: NDArray[np.int64]
    """How many lie side by side on the sheet, `[1]`."""
    shapes: NDArray[np.int64]
    """Height and width of the originals in pixels, `[N, 2]`, to undo the squashing."""
    blocks: NDArray[np.int64]
    """Depths that were mapped, from 1, rising, `[L]`."""
    points: NDArray[np.float32]
    """t-SNE of each depth in [-1, 1], `[L, N, 2]`, turned and mirrored to agree with the last."""
    queries: NDArray[np.int64]
    """Images asked for their neighbours, `[Q]`."""
    neighbours: NDArray[np.int64]
    """The nearest others by cosine at depth `near_block`, nearest first, `[Q, K]`."""
    cosines: NDArray[np.float32]
    """How near they are, `[Q, K]`."""
    near_block: NDArray[np.int64]
    """The depth of the neighbours, `[1]`."""

    def to_bytes(self) -> bytes:
        """Content of the file."""
        file = io.BytesIO()
        np.savez_compressed(file, **vars(self))
        return file.getvalue()


def draw(
    encoder: Encoder,
    store: ImageStore,
    task: Task,
    *,
    best: int,
    images: int,
    seed: int,
    batch_size: int = 512,
    progress: Share = lambda share: None,
) -> tuple[Atlas, ...]:
    """The atlas of test images drawn by seed; none where there are fewer than `LEAST` that can be read.

    Args:
        encoder: left as it was found.
        store: of the test images.
        task: which of them have labels, and whether those are real; all images are drawn from where they are not.
        best: the depth to show beside the first, the middle and the last, from 1.
        images: at most so many.
        seed: of the draw and of the maps.
        batch_size: images per forward pass.
        progress: told the share done.
    """
    labelled = not task.obstacle
    offered = len(task.test_rows) if labelled else len(store)
    picked = torch.randperm(offered, generator=torch.Generator().manual_seed(seed))[:images].sort().values
    asked = task.test_rows[picked] if labelled else picked
    found = extract(encoder, store, asked, batch_size=batch_size)
    rows = asked[found.kept]
    if len(rows) < LEAST:
        return ()
    labels = task.test_labels[picked][found.kept] if labelled else torch.full((len(rows),), -1)
    blocks = depths(len(found.blocks), best)
    maps = []
    for number, block in enumerate(blocks, 1):
        maps.append(flat_map(found.blocks[block - 1], seed))
        progress(number / len(blocks))
    queries = _queries(labels)
    near, cosines = nearest(found.blocks[best - 1], queries, NEIGHBOURS)
    sheet, columns = contact_sheet(store, rows)
    return (
        Atlas(
            ids=np.array([store.ids[row] for row in rows.tolist()], dtype=np.str_),
            labels=labels.numpy(),
            classes=np.array(task.classes if labelled else (), dtype=np.str_),
            sheet=sheet,
            columns=np.array([columns]),
            shapes=store.sizes[rows].numpy(),
            blocks=np.array(blocks),
            points=np.stack([turned(each, maps[-1]) for each in maps]).astype(np.float32),
            queries=queries.numpy(),
            neighbours=near.numpy(),
            cosines=cosines.numpy(),
            near_block=np.array([best]),
        ),
    )


def depths(count: int, best: int) -> tuple[int, ...]:
    """The first, the middle, the best and the last of `count` blocks, each once, rising."""
    return tuple(sorted({1, math.ceil(count / 2), best, count}))


def flat_map(vectors: Tensor, seed: int) -> NDArray[np.float64]:
    """t-SNE of the directions of vectors `[N, D]`, begun at their two principal components; `[N, 2]` in [-1, 1]."""
    from sklearn.manifold import TSNE  # takes a second, which evaluations without a map need not wait

    units = nn.functional.normalize(vectors.double(), dim=1).cpu().numpy()
    perplexity = min(PERPLEXITY, (len(units) - 1) / 3)
    model = TSNE(init=_components(units), perplexity=perplexity, max_iter=ITERATIONS, random_state=seed)
    points = model.fit_transform(units).astype(np.float64)
    return _within(points - points.mean(axis=0))


def turned(points: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points `[N, 2]` turned and mirrored to lie as close to the target as they can, kept inside [-1, 1]."""
    rotation: NDArray[np.float64] = orthogonal_procrustes(points, target)[0]
    return _within(points @ rotation)


def _within(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scaled so that the farthest coordinate is 1."""
    return np.divide(points, max(float(np.abs(points).max()), 1e-12))


def nearest(vectors: Tensor, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` nearest of vectors `[N, D]` by cosine to each of `queries` (int64 `[Q]`), never itself.

    Returns:
        Places int64 `[Q, K]`, nearest first and the earlier of equals first, and cosines float32 `[Q, K]`.
    """
    units = nn.functional.normalize(vectors.float(), dim=1).cpu()
    likeness = units[queries] @ units.T
    likeness[torch.arange(len(queries)), queries] = -math.inf
    cosines, places = likeness.sort(dim=1, descending=True, stable=True)
    count = min(count, len(vectors) - 1)
    return places[:, :count], cosines[:, :count].clamp(-1.0, 1.0)


def _queries(labels: Tensor) -> Tensor:
    """Evenly spaced places whose classes take turns; int64 `[Q]`."""
    turns: list[Sequence[int]] = [(labels == label).nonzero().squeeze(1).tolist() for label in labels.unique().tolist()]
    each = math.ceil(QUERIES / len(turns))
    picked = [places[len(places) * turn // each] for turn in range(each) for places in turns if turn < len(places)]
    return torch.tensor(picked[:: max(1, len(picked) // QUERIES)][:QUERIES])


def _components(units: NDArray[np.float64]) -> NDArray[np.float32]:
    """The first two principal components `[N, 2]`, of deviation 1e-4; zeros where vectors do not differ."""
    centred = units - units.mean(axis=0)
    left, strengths, _ = np.linalg.svd(centred, full_matrices=False)
    flat = np.zeros((len(units), 2))
    kept = min(2, len(strengths))
    flat[:, :kept] = left[:, :kept] * strengths[:kept] * np.sign(left[np.abs(left[:, :kept]).argmax(0), range(kept)])
    deviation = float(flat[:, 0].std())
    return (flat / deviation * 1e-4 if deviation > 1e-9 else flat * 0).astype(np.float32)
