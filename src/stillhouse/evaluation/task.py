"""What can be asked of two stores: which of their images have labels, and whether those mean the same.

Letters: N training images, M test images, C classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from stillhouse.data.store import ImageStore, align_labels
from stillhouse.errors import DataError
from stillhouse.evaluation.split import hold_out

SHOWN = 5
TESTED_SHARE = 0.2


@dataclass(frozen=True)
class Task:
    """A classification: labelled images to learn from and to be tested on."""

    train_rows: Tensor
    """Positions in the training store, int64 `[N]`."""
    train_labels: Tensor
    """Int64 `[N]` in [0, C)."""
    test_rows: Tensor
    """Positions in the test store, int64 `[M]`."""
    test_labels: Tensor
    """Int64 `[M]` in [0, C)."""
    classes: tuple[str, ...]
    """Names of the C classes that training images have."""
    obstacle: str
    """Why there is nothing to ask, in words; empty when there is."""


def find_task(train: ImageStore, test: ImageStore, seed: int = 0) -> Task:
    """Match labels by the names of their classes; images without label are left out.

    When `train` is `test`, a seeded fifth of each class becomes the test.

    Raises:
        DataError: the test set has a class that no training image has.
    """
    train_rows, test_rows = _labelled(train), _labelled(test)
    learnt, tested = train.labels.cpu()[train_rows], _translated(train, test)[test_rows]
    if train is test:
        kept, held = hold_out(learnt, TESTED_SHARE, seed)
        train_rows, test_rows, learnt, tested = train_rows[kept], train_rows[held], learnt[kept], learnt[held]
    known = torch.unique(learnt)
    obstacle = _obstacle(len(train_rows), len(test_rows), len(known))
    if obstacle:
        return Task(train_rows, learnt, test_rows, tested, (), obstacle)
    _refuse_strangers(train, test, known, tested, test_rows)
    names = tuple(train.classes[label] if train.classes else str(label) for label in known.tolist())
    return Task(train_rows, torch.searchsorted(known, learnt), test_rows, torch.searchsorted(known, tested), names, "")


def _labelled(store: ImageStore) -> Tensor:
    return (store.labels.cpu() >= 0).nonzero().squeeze(1)


def _translated(train: ImageStore, test: ImageStore) -> Tensor:
    """Labels of the test store in the numbering of the training store; -1 for a class it does not name."""
    labels = test.labels.cpu()
    if not train.classes or not test.classes or train.classes == test.classes:
        return labels
    return align_labels(labels, test.classes, train.classes)


def _obstacle(num_train: int, num_test: int, num_classes: int) -> str:
    if not num_train or not num_test:
        which = "the training images" if num_test else "the test images" if num_train else "both sets"
        return f"no labels in {which}, so no accuracy; what needs no labels is measured"
    if num_classes < 2:
        return "all labelled training images are of one class, so an accuracy would say nothing"
    return ""


def _refuse_strangers(train: ImageStore, test: ImageStore, known: Tensor, tested: Tensor, test_rows: Tensor) -> None:
    strange = ~torch.isin(tested, known)
    if strange.any():
        labels = torch.unique(test.labels.cpu()[test_rows[strange]]).tolist()
        names = [test.classes[label] if test.classes else str(label) for label in labels]
        told = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        raise DataError(
            f"test labels: {len(names)} classes have no training image ({told}); "
            "name a training set that has every class, or take their images out of the test set"
        )
