"""What was found among images, as tables of the terminal, as CSV files and as pages with pictures."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Column, Table

from stillhouse.data.decode import decode
from stillhouse.data.store import ImageStore
from stillhouse.embeddings.clusters import SHOWN, Clusters, Member
from stillhouse.embeddings.duplicates import Copy, Duplicates, Kind
from stillhouse.embeddings.output import write_csv
from stillhouse.embeddings.reader import text
from stillhouse.embeddings.search import Neighbor, Query
from stillhouse.embeddings.thumbnails import thumbnails, unsquashed
from stillhouse.errors import DataError
from stillhouse.report.gallery import Gallery, Row, Shown, write_gallery

LISTED = 10
"""Groups or clusters in a table of the terminal."""
PICTURED = 200
"""Pictures on a page, so that each is large enough to be seen."""
KINDS: dict[Kind, str] = {"same file": "the same file", "same pixels": "the same pixels", "near": "nearly the same"}


def say(line: str) -> None:
    """One plain line."""
    Console().print(line, markup=False, highlight=False, soft_wrap=True)


def neighbors_table(query: Query, found: Sequence[Neighbor]) -> None:
    """A row for each image that was found."""
    labels = any(neighbor.label for neighbor in found)
    table = _table("rank", Column("cosine", justify="right"), Column("id", overflow="fold"), *["label"] * labels)
    for rank, each in enumerate(found, 1):
        table.add_row(str(rank), f"{each.cosine:.4f}", each.id, *[each.label or ""] * labels)
    say(f"most like {query.name}:")
    Console().print(table, markup=False)


def neighbors_page(path: Path, query: Query, found: Sequence[Neighbor], store: ImageStore) -> None:
    """The images that were found, and the one asked about."""
    place = {text(id_): row for row, id_ in enumerate(store.ids)}
    if missing := [each.id for each in found if each.id not in place]:
        raise DataError(f"--data: has no image {missing[0]!r}, which was found; name the images that were embedded")
    asked = thumbnails(store, [place[query.name]])[0] if query.row is not None else _of_file(query.name, store.size)
    pictures = thumbnails(store, [place[each.id] for each in found])
    shown = [
        Shown(pixels, each.id, _words(f"cosine {each.cosine:.4f}", each.label))
        for pixels, each in zip(pictures, found, strict=True)
    ]
    write_gallery(
        path,
        Gallery(
            title="Most alike",
            facts=[("found", str(len(found))), ("among", f"{len(store):,} images")],
            lead=f"The images whose vectors have the highest cosine with that of {query.name}.",
            rows=[Row("Asked about", "", [Shown(asked, query.name)]), Row("Found", "Most alike first.", shown)],
        ),
    )


def duplicates_table(found: Duplicates) -> None:
    """How many there are, and the largest groups."""
    say(_summary(found))
    say(_compared(found))
    if not found.groups:
        return
    columns = "images", "kinds", "lowest cosine", Column("first image, and one like it", overflow="fold")
    table = _table(*columns)
    for group in found.groups[:LISTED]:
        kinds = ", ".join(dict.fromkeys(copy.kind for copy in group[1:]))
        names = f"{group[0].id}, {group[1].id}"
        table.add_row(str(len(group)), kinds, f"{min(copy.cosine for copy in group):.4f}", names)
    Console().print(table, markup=False)
    if len(found.groups) > LISTED:
        say(f"and {len(found.groups) - LISTED:,} more groups; write them all with --out groups.csv or groups.html")


def duplicates_csv(path: Path, found: Duplicates) -> None:
    """A row for each image of each group."""
    head = "group", "id", "label", "kind", "like", "cosine", "correlation"
    rows = (
        (number, copy.id, copy.label or "", copy.kind, copy.like, copy.cosine, copy.correlation)
        for number, group in enumerate(found.groups, 1)
        for copy in group
    )
    write_csv(path, head, rows)


def duplicates_page(path: Path, found: Duplicates, store: ImageStore, data: str) -> None:
    """The groups with their pictures, as many as a page holds."""
    rows, shown = list[Row](), 0
    for number, group in enumerate(found.groups, 1):
        if shown >= PICTURED:
            break
        some = group[: PICTURED - shown]
        shown += len(some)
        pictures = [
            Shown(pixels, copy.id, _copy_words(copy))
            for pixels, copy in zip(thumbnails(store, [copy.row for copy in some]), some, strict=True)
        ]
        rows.append(Row(f"Group {number}, {len(group):,} images", "", pictures))
    left = sum(map(len, found.groups)) - shown
    facts = [("data", data), ("images", f"{found.images:,}"), ("groups", f"{len(found.groups):,}")]
    note = f"{left:,} more images of these and other groups are not shown; a .csv file has them all." if left else ""
    write_gallery(path, Gallery("Duplicates", facts, _sentences(_summary(found), _compared(found)), rows, note))


def clusters_table(found: Clusters) -> None:
    """Sizes, the images nearest to each centre, and how well they are told apart."""
    say(_separated(found))
    say(_agreed(found))
    table = _table(*(Column(name, justify="right") for name in ("cluster", "images")), Column("nearest to the centre"))
    for number, size in enumerate(found.sizes[:LISTED], 1):
        table.add_row(str(number), f"{size:,}", ", ".join(_named(each) for each in found.central(number, 3)))
    Console().print(table, markup=False)
    if len(found.sizes) > LISTED:
        say(f"and {len(found.sizes) - LISTED:,} more clusters; write them all with --out clusters.csv or clusters.html")


def clusters_csv(path: Path, found: Clusters) -> None:
    """A row for each image, in the order of the collection."""
    rows = ((each.id, each.cluster, each.cosine, each.label or "") for each in found.members)
    write_csv(path, ("id", "cluster", "cosine", "label"), rows)


def clusters_page(path: Path, found: Clusters, store: ImageStore, data: str) -> None:
    """The images nearest to each centre, for as many clusters as a page holds."""
    count = max(1, min(len(found.sizes), PICTURED // SHOWN))
    rows = []
    for number, size in enumerate(found.sizes[:count], 1):
        central = found.central(number)
        pictures = [
            Shown(pixels, each.id, _words(f"cosine {each.cosine:.3f}", each.label))
            for pixels, each in zip(thumbnails(store, [each.row for each in central]), central, strict=True)
        ]
        rows.append(Row(f"Cluster {number}", f"{size:,} images; those nearest to the centre.", pictures))
    facts = [("data", data), ("images", f"{len(found.members):,}"), ("clusters", f"{len(found.sizes):,}")]
    left = len(found.sizes) - count
    note = f"{left:,} smaller clusters are not shown; a .csv file has them all." if left else ""
    write_gallery(path, Gallery("Clusters", facts, _sentences(_separated(found), _agreed(found)), rows, note))


def _summary(found: Duplicates) -> str:
    if not found.groups:
        return f"no duplicates among {found.images:,} images"
    kinds = ", ".join(f"{found.count(kind):,} {words}" for kind, words in KINDS.items() if found.count(kind))
    groups = f"{_counted(len(found.groups), 'group')} among {_counted(found.images, 'image')}"
    return f"{groups}; {_counted(found.superfluous, 'image')} could go ({kinds})"


def _compared(found: Duplicates) -> str:
    how = "what this encoder keeps of small changes" if found.calibrated else "as asked for"
    return f"pixels of {found.candidates:,} pairs compared: cosine {found.threshold:.3f} or more, {how}"


def _separated(found: Clusters) -> str:
    sentence = f"{len(found.members):,} images in {len(found.sizes):,} clusters"
    if math.isfinite(found.silhouette):
        sentence += f", silhouette {found.silhouette:.3f}"
    return sentence + (f", the best of {', '.join(map(str, found.tried))}" if found.tried else "")


def _agreed(found: Clusters) -> str:
    if not (agreed := found.agreement):
        return "no labels to compare with"
    scores = f"purity {agreed.purity:.3f}, NMI {agreed.nmi:.3f}, ARI {agreed.ari:.3f}"
    return f"beside the labels of {agreed.images:,} images: {scores}"


def _copy_words(copy: Copy) -> str:
    return _words(copy.kind, f"cosine {copy.cosine:.4f}", f"pixels {copy.correlation:.3f}", copy.label)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _words(*parts: str | None) -> str:
    return ", ".join(part for part in parts if part)


def _named(member: Member) -> str:
    told = not member.label or member.id.startswith(f"{member.label}/")
    return member.id if told else f"{member.id} ({member.label})"


def _sentences(*parts: str) -> str:
    return " ".join(f"{part[:1].upper()}{part[1:]}." for part in parts)


def _of_file(path: str, size: int) -> NDArray[np.uint8]:
    pixels, (height, width) = decode(Path(path).read_bytes(), size)
    return unsquashed(torch.from_numpy(pixels.copy()), height, width)


def _table(*columns: Column | str) -> Table:
    return Table(*columns, box=None)
