"""Are planted near-duplicates found, and nothing else? 200 images of a set are changed a little and put back into it.

    python benchmarks/duplicates.py --data test.parquet --encoder runs/a --out duplicates.md

A copy is shifted by 1 or 2 pixels to a random side, made brighter or darker by up to a fifth, or encoded again as JPEG
of quality 50 to 90. Recall counts planted pairs that end in one group. Precision counts groups with a planted pair
among all groups that the set did not have before; what it had before is its own, told apart, and shown with --page.
For comparison: pairs above fixed cosines without a look at pixels.
"""

import io
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from stillhouse.cli.findings import duplicates_page
from stillhouse.data.sources import open_source
from stillhouse.data.store import DataConfig
from stillhouse.embeddings.duplicates import Duplicates, close_pairs, find_duplicates
from stillhouse.embeddings.reader import Reader, open_reader
from stillhouse.embeddings.thumbnails import thumbnails
from timing import Row, Table, parser, prepare, report

PLANTED = 200
COSINES = (0.9, 0.95, 0.97, 0.99)
KINDS = ("shift", "brightness", "JPEG")
Pair = frozenset[str]


def main() -> None:
    """Search the set as it is, then with copies in it."""
    arguments = parser(__doc__ or "", 1)
    arguments.add_argument("--data", required=True, help="URI of images of about 32 pixels")
    arguments.add_argument("--encoder", required=True, help="run directory")
    arguments.add_argument("--limit", type=int, default=10_000, help="images used (%(default)s)")
    arguments.add_argument("--page", type=Path, help="also write what the set itself holds as .html")
    chosen = arguments.parse_args()
    device = prepare()
    reader, config = open_reader(chosen.encoder), DataConfig(limit=chosen.limit)
    store = reader.open(chosen.data, config)
    own = find_duplicates(reader, store, open_source(chosen.data))
    if chosen.page:
        duplicates_page(chosen.page, own, store, chosen.data)
    with TemporaryDirectory() as folder:
        kinds = plant(Path(folder), thumbnails(store, [*range(len(store))]))
        source = open_source(folder)
        copied = reader.open(folder)
        read = [time.process_time()]
        found = find_duplicates(reader, copied, source, progress=lambda _: read.append(time.process_time()))
        seconds = time.process_time() - read[-1], read[-1] - read[0]
        cosines = cosine_table(reader, folder, kinds, len(own.groups))
    tables = [
        Table("Planted near-duplicates", [*planted_rows(found, kinds)]),
        Table("Both looks", [summary(found, own, kinds, seconds)]),
        Table("A cosine alone", cosines),
    ]
    report(tables, device, chosen.out)


def plant(folder: Path, pictures: list[NDArray[np.uint8]]) -> dict[Pair, str]:
    """Write all pictures and changed copies of some; the pairs that belong together, and what was done to them."""
    generator = np.random.default_rng(0)
    for number, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(folder / f"{number:05d}.png", compress_level=1)
    kinds = {}
    for place, number in enumerate(generator.permutation(len(pictures))[:PLANTED].tolist()):
        kind = KINDS[place % len(KINDS)]
        copy = folder / f"{number:05d}-{kind}.png"
        Image.fromarray(changed(pictures[number], kind, generator)).save(copy)
        kinds[frozenset((f"{number:05d}.png", copy.name))] = kind
    return kinds


def changed(pixels: NDArray[np.uint8], kind: str, generator: np.random.Generator) -> NDArray[np.uint8]:
    """A copy `[H, W, 3]` that shows the same picture."""
    if kind == "shift":
        down, right = 0, 0
        while not (down or right):
            down, right = generator.integers(-2, 3, 2).tolist()
        padded = np.pad(pixels, ((2, 2), (2, 2), (0, 0)), "edge")
        return padded[2 + down : 2 + down + len(pixels), 2 + right : 2 + right + pixels.shape[1]]
    if kind == "brightness":
        factor = generator.uniform(1.1, 1.2) if generator.random() < 0.5 else generator.uniform(0.8, 0.9)
        return (pixels * factor).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=int(generator.integers(50, 91)))
    return np.asarray(Image.open(file))


def planted_rows(found: Duplicates, kinds: dict[Pair, str]) -> list[Row]:
    """Recall by what was done to the copies."""
    together = [{copy.id for copy in group} for group in found.groups]
    rows: list[Row] = []
    for kind in KINDS:
        pairs = [pair for pair, done in kinds.items() if done == kind]
        right = sum(any(pair <= group for group in together) for pair in pairs)
        rows.append({"change": kind, "planted": len(pairs), "found": right, "recall": right / len(pairs)})
    return rows


def summary(found: Duplicates, own: Duplicates, kinds: dict[Pair, str], seconds: tuple[float, float]) -> Row:
    """Precision and recall over all."""
    together = [{copy.id for copy in group} for group in found.groups]
    right = sum(any(pair <= group for group in together) for pair in kinds)
    holding = sum(any(pair <= group for pair in kinds) for group in together)
    strange = max(0, len(together) - holding - len(own.groups))
    return {
        "images": found.images, "threshold (calibrated)": found.threshold, "pairs looked at": found.candidates,
        "recall": right / len(kinds), "precision": holding / max(1, holding + strange),
        "groups of the set itself": len(own.groups), "features, CPU s": seconds[1], "after features, CPU s": seconds[0],
    }  # fmt: skip


def cosine_table(reader: Reader, folder: str, kinds: dict[Pair, str], own: int) -> list[Row]:
    """What every pair above a cosine would give; pairs of the set itself count as right, as many as it has groups."""
    store = reader.open(folder)
    vectors, kept = reader.vectors(store)
    ids = [store.ids[row] for row in kept.tolist()]
    rows: list[Row] = []
    for least in COSINES:
        pairs = [(one, other) for one, other in close_pairs(vectors, least) if len(one)]
        count = sum(len(one) for one, _ in pairs)
        right = sum(
            frozenset((ids[a], ids[b])) in kinds
            for one, other in pairs
            for a, b in torch.stack((one, other), 1).tolist()
        )
        rows.append({"cosine": least, "pairs": count, "recall": right / len(kinds),
                     "precision, at most": min(1.0, (right + own) / max(1, count))})  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
