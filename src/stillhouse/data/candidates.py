"""Which stored images an image is compared with, drawn anew in every step.

A draw follows from the step alone, so that a resumed run repeats it, and it is made for the images of all processes at
once, so that their number changes nothing.

Letters: B images per process, K negatives, N images.
"""

from typing import Literal

import torch
from torch import Tensor

from stillhouse.data.labels import Labels
from stillhouse.distributed import position, world_size

Positive = Literal["exact", "relax"]


def uniform_candidates(index: Tensor, num_images: int, num_negatives: int, step: int) -> Tensor:
    """Each image's own place, then K of all N, drawn with replacement; `[B, K + 1]`.

    An image may meet itself among its negatives, as it does in the published label-free mode.

    Args:
        index: places of the images, int64 `[B]`.
        num_images: N.
        num_negatives: K.
        step: seeds the draw.
    """
    generator = torch.Generator().manual_seed(step)
    drawn = torch.randint(num_images, (len(index) * world_size(), num_negatives), generator=generator)
    start = position(index)
    return torch.cat([index[:, None], drawn[start : start + len(index)].to(index.device)], dim=1)


def class_groups(labels: Labels) -> Tensor:
    """A number for every image, int64 `[N]`, that all images of its class share; one of its own where it is unknown."""
    alone = len(labels.classes) + torch.arange(len(labels.of), device=labels.of.device)
    return torch.where(labels.of >= 0, labels.of, alone)


def class_candidates(index: Tensor, groups: Tensor, num_negatives: int, step: int, positive: Positive) -> Tensor:
    """A positive for each image, then K images of other groups; `[B, K + 1]`.

    All images are shuffled once a step. An image's negatives are K in a row of that shuffle, from a place of its own,
    its group left out and the end joined to the beginning. So they are a uniform draw without replacement; where the
    other groups have fewer than K images, each of these comes up as often as any other, give or take one.

    Args:
        index: places of the images, int64 `[B]`.
        groups: `class_groups`, `[N]`, of two groups or more; on the device of `index`.
        num_negatives: K.
        step: seeds the draw.
        positive: `exact` is the image itself, `relax` a random image of its group, which may be itself.

    Source: the two modes are those of CRD's official code, which draws each image's negatives independently.
    """
    generator, everyone = torch.Generator().manual_seed(step), len(index) * world_size()
    shuffled = torch.randperm(len(groups), generator=generator).to(index.device)
    drawn = torch.randint(len(groups), (2, everyone), generator=generator)
    starts, picks = drawn[:, position(index) :][:, : len(index)].to(index.device)
    candidates = index[:, None].repeat(1, num_negatives + 1)
    wanted, in_order = groups[index], groups[shuffled]
    for group in wanted.unique():
        rows = (wanted == group).nonzero()[:, 0]
        others = shuffled[in_order != group]
        repeats = 1 + -(-(num_negatives - 1) // len(others))
        windows = others.repeat(repeats).unfold(0, num_negatives, 1)
        candidates[rows, 1:] = windows[starts[rows] % len(others)]
        if positive == "relax":
            members = shuffled[in_order == group]
            candidates[rows, 0] = members[picks[rows] % len(members)]
    return candidates
