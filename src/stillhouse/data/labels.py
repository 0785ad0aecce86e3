"""What is known about the classes of images: all labels, fewer than there are, or wrong ones.

Letters: N images, C classes.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from stillhouse.data.store import DataConfig, ImageStore, align_labels
from stillhouse.errors import SettingsError


@dataclass(frozen=True)
class Labels:
    """The class of every image of a store, for the few methods that learn from it."""

    of: Tensor
    """Int64 `[N]` in [0, C), -1 where unknown; addressed by `Batch.index`."""
    classes: tuple[str, ...]
    """Names of the C classes."""

    def check_for(self, method: str) -> None:
        """Raise `SettingsError` when there are too few classes for the method of this name to learn."""
        if len(self.classes) < 2:
            raise SettingsError(
                f"method.name: {method} learns from labels, and {len(self.classes)} classes have any; name images with "
                "labels of two classes or more, and leave data.labels on"
            )


_COUNT = re.compile(r"(?P<count>\d+)(?P<each> per class)?|(?P<percent>\d+(\.\d+)?)%", re.ASCII)


def parse_count(text: str, total: int, num_classes: int) -> int:
    """How many of `total` images `250`, `5 per class`, `1%` or `0.5%` mean.

    A share is rounded down, as in the published subsets.

    Raises:
        SettingsError: the text is none of these.
    """
    match = _COUNT.fullmatch(text)
    if not match:
        raise SettingsError(f"{text!r} is neither a count (250, 5 per class) nor a share (1%); write one of these")
    if match["percent"]:
        return int(Fraction(match["percent"]) * total / 100)
    return int(match["count"]) * (num_classes if match["each"] else 1)


def balanced_subset(labels: Tensor, count: int, seed: int) -> Tensor:
    """Positions of `count` labelled images, as many of each class as of any other.

    With `q, r = divmod(count, C)`, every class gives q images and r classes one more. Classes take turns in one order
    for each seed, so a smaller subset lies inside every larger one; a class that has run out is passed over.

    Args:
        labels: int64 `[N]`; -1 for an image without a label, which is never chosen.
        count: images wanted.
        seed: of the order.

    Returns:
        Int64 `[count]`, rising.

    Raises:
        SettingsError: fewer than one image for each class, or more than have a label.

    Source: the balanced subsets of Chen et al. 2020 (SimCLR v2), nested.
    """
    classes = torch.unique(labels[labels >= 0]).tolist()
    labelled = int((labels >= 0).sum())
    if not 0 < len(classes) <= count <= labelled:
        raise SettingsError(
            f"{count} of {labelled} labels for {len(classes)} classes; "
            f"ask for one of each class at least and for all at most, {len(classes)} to {labelled}"
        )
    generator = torch.Generator().manual_seed(seed)
    turns, places = [], []
    for turn, answer in zip(torch.randperm(len(classes), generator=generator), classes, strict=True):
        own = (labels == answer).nonzero().squeeze(1).cpu()
        places.append(own[torch.randperm(len(own), generator=generator)])
        turns.append(turn + len(classes) * torch.arange(len(own)))
    order = torch.cat(places)[torch.cat(turns).argsort()]
    return order[:count].sort().values.to(labels.device)


def with_wrong_labels(labels: Tensor, num_classes: int, rate: float, seed: int) -> Tensor:
    """The labels with exactly `round(rate * N)` of them replaced, each by one of the other C - 1 classes at random.

    For one seed, what is wrong at a lower rate is as wrong at every higher one.

    Args:
        labels: int64 `[N]` in [0, C).
        num_classes: C, two or more.
        rate: share to replace, in [0, 1].
        seed: of the choice.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    shift = torch.randint(1, num_classes, (len(labels),), generator=generator)
    shift[order[round(rate * len(labels)) :]] = 0
    return (labels + shift.to(labels.device)) % num_classes


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
        count = parse_count(data.labelled, total, len(torch.unique(store.labels[store.labels >= 0])))
        return store.knowing(balanced_subset(store.labels, count, data.seed))
    except SettingsError as error:
        raise SettingsError(f"data.labelled: {error}") from error


def find_labels(store: ImageStore, classes: tuple[str, ...] = ()) -> Labels:
    """The images' labels, their classes numbered without gaps; no class where nothing is known.

    Args:
        store: the images.
        classes: names to number them by, where there are others than the images show.

    Raises:
        SettingsError: an image is of a class that is none of `classes`.
    """
    known = store.labels.cpu()
    present = torch.unique(known[known >= 0])
    numbered = torch.where(known >= 0, torch.searchsorted(present, known), -1)
    names = tuple(store.classes[label] if store.classes else str(label) for label in present.tolist())
    if not classes:
        return Labels(numbered, names)
    if strange := [name for name in names if name not in classes]:
        raise SettingsError(
            f"data.classes: there are images of {', '.join(map(repr, strange[:5]))}, and the classes told apart are "
            f"{', '.join(map(repr, classes))}; take these images out, name their class as it is named there, or set "
            "data.labels=false where labels are not needed"
        )
    return Labels(align_labels(numbered, names, classes), classes)
