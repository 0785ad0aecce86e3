"""What is known about the classes of stored images, for the few methods that learn from it.

Letters: N images, C classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from stillhouse.data.store import DataConfig, ImageStore
from stillhouse.errors import SettingsError


@dataclass(frozen=True)
class Labels:
    """The class of every image of a store."""

    of: Tensor
    """Int64 `[N]` in [0, C), -1 where unknown; addressed by `Batch.index`."""
    classes: tuple[str, ...]
    """Names of the C classes."""


def balanced_subset(labels: Tensor, count: int, seed: int) -> Tensor:
    """Positions of `count` labelled images, drawn alike from every class; ascending.

    Every class gives `count // C` images, and `count % C` of the classes one more. Each class is shuffled once and its
    first images are taken, and classes give their extra image in one shuffled order, so that of two sets of one seed
    the smaller lies within the larger.

    Args:
        labels: int64 `[N]`, -1 where unknown.
        count: images to draw, at least one for each of the C classes that are there.
        seed: of the shuffles; another seed is another set.

    Returns:
        Int64 `[count]`.

    Raises:
        SettingsError: fewer than one image per class is asked for, or more than the smallest class can give.

    Source: the label subsets of SimCLR's semi-supervised protocol, which are balanced and not proportional.
    """
    labels = labels.cpu()
    present = torch.unique(labels[labels >= 0]).tolist()
    if not present or count < len(present):
        raise SettingsError(
            f"labelled images: {count} for {len(present)} classes leave a class without any; "
            f"ask for {max(1, len(present))} or more"
        )
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(present), generator=generator).tolist()
    shared, extra = divmod(count, len(present))
    wanted = {present[place]: shared + (turn < extra) for turn, place in enumerate(order)}
    drawn = []
    for name in present:
        rows = (labels == name).nonzero().squeeze(1)
        if len(rows) < wanted[name]:
            raise SettingsError(
                f"labelled images: class number {name} has {len(rows)}, and {wanted[name]} of each are wanted; "
                f"ask for {len(rows) * len(present)} or fewer"
            )
        drawn.append(rows[torch.randperm(len(rows), generator=generator)[: wanted[name]]])
    return torch.cat(drawn).sort().values


def parse_count(text: str, total: int) -> int:
    """How many of `total` images a share such as `1%` or a number such as `250` means; a share is rounded down.

    Raises:
        SettingsError: the text is neither, or means none or more than there are.
    """
    share = text.strip().endswith("%")
    try:
        value = float(text.strip().removesuffix("%")) if share else int(text)
        count = int(total * value / 100 + 1e-6) if share else int(value)
    except (ValueError, OverflowError) as error:
        raise SettingsError(f"number of images: {text!r} is neither a share nor a number; write 1% or 250") from error
    if not 0 < count <= total:
        raise SettingsError(f"number of images: {text} of {total} means {count}; choose between 1 and {total}")
    return count


def hide_labels(store: ImageStore, data: DataConfig) -> ImageStore:
    """The same images with only those labels that training is to know.

    Raises:
        SettingsError: there are no labels, or `data.labelled` is not a number of them that every class can give.
    """
    if not data.labelled:
        return store
    total = int((store.labels >= 0).sum())
    if not total:
        raise SettingsError(
            f"data.labelled: {data.labelled} of the labels are to be known, and {data.uri} has none; "
            "name images with labels, leave data.labels on, or leave data.labelled out"
        )
    try:
        return store.knowing(balanced_subset(store.labels, parse_count(data.labelled, total), data.seed))
    except SettingsError as error:
        raise SettingsError(f"data.labelled: {error}") from error


def find_labels(store: ImageStore) -> Labels:
    """The images' labels, their classes numbered without gaps; no class where nothing is known."""
    known = store.labels.cpu()
    present = torch.unique(known[known >= 0])
    numbered = torch.where(known >= 0, torch.searchsorted(present, known), -1)
    names = tuple(store.classes[label] if store.classes else str(label) for label in present.tolist())
    return Labels(numbered, names)
