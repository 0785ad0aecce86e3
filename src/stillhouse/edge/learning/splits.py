"""Who holds which images: for experiments, in which one labelled set plays many users.

Letters: N images, U users, C classes.
"""

import numpy as np
import torch
from torch import Tensor

from stillhouse.errors import SettingsError


def identical(labels: Tensor, users: int, seed: int) -> list[Tensor]:
    """Every user gets as many images as any other, whatever their class; a remainder goes to the first ones.

    Args:
        labels: int64 `[N]`; only its length matters.
        users: U, at most N.
        seed: of the draw.

    Returns:
        U of int64 `[N_u]`, rising; every image has one owner.
    """
    _check_users(users, len(labels))
    order = np.random.default_rng(seed).permutation(len(labels))
    return [_rows(part) for part in np.array_split(order, users)]


def dirichlet(labels: Tensor, users: int, alpha: float, seed: int) -> list[Tensor]:
    """Each class is dealt out by shares from a symmetric Dirichlet distribution: the smaller alpha, the more skew.

    Args:
        labels: int64 `[N]`.
        users: U, at most N.
        alpha: concentration, above 0; 100 is nearly even, 0.1 leaves most classes with one or two users.
        seed: of the draw.

    Returns:
        U of int64 `[N_u]`, rising; every image has one owner. Users differ in how many they hold; whoever draws none
        gets one image of the user that holds most.

    Source: Hsu, Qi, Brown 2019, with shares drawn class by class.
    """
    _check_users(users, len(labels))
    if not alpha > 0:
        raise SettingsError(f"splits.alpha: {alpha}, and shares need one above 0; set 0.3 or so")
    random = np.random.default_rng(seed)
    hands: list[list[int]] = [[] for _ in range(users)]
    for answer in torch.unique(labels).tolist():
        places = random.permutation((labels == answer).nonzero().squeeze(1).numpy())
        cuts = np.round(np.cumsum(random.dirichlet([alpha] * users))[:-1] * len(places)).astype(int)
        for hand, part in zip(hands, np.split(places, cuts), strict=True):
            hand += part.tolist()
    for hand in hands:
        if not hand:
            hand.append(max(hands, key=len).pop())
    return [_rows(np.array(hand)) for hand in hands]


def few_classes(labels: Tensor, users: int, classes: int, seed: int) -> list[Tensor]:
    """Every user holds `classes` classes, dealt in turn from one shuffled order, so that all classes are held alike.

    Args:
        labels: int64 `[N]`.
        users: U; U times `classes` must reach C, or some images would have no owner.
        classes: of each user, at most C.
        seed: of the draw.

    Returns:
        U of int64 `[N_u]`, rising; every image has one owner, and a class's images go in equal parts to its holders.

    Raises:
        SettingsError: too few or too many classes a user.
    """
    _check_users(users, len(labels))
    random = np.random.default_rng(seed)
    known = random.permutation(torch.unique(labels).numpy())
    if not 0 < classes <= len(known) <= users * classes:
        raise SettingsError(
            f"splits.classes: {classes} for each of {users} users, and there are {len(known)}; "
            f"choose {-(-len(known) // users)} to {len(known)}"
        )
    hands: list[list[int]] = [[] for _ in range(users)]
    for number, answer in enumerate(known.tolist()):
        holders = [user for user in range(users) if (number - user * classes) % len(known) < classes]
        places = random.permutation((labels == answer).nonzero().squeeze(1).numpy())
        for user, part in zip(holders, np.array_split(places, len(holders)), strict=True):
            hands[user] += part.tolist()
    return [_rows(np.array(hand, dtype=np.int64)) for hand in hands]


def _rows(places: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]") -> Tensor:
    return torch.from_numpy(np.sort(places.astype(np.int64)))


def _check_users(users: int, images: int) -> None:
    if not 0 < users <= images:
        raise SettingsError(f"splits.users: {users}, and there are {images} images; choose 1 to {images}")
