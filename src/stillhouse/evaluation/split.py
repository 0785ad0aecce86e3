"""Parts of a labelled set: which images a probe learns from, and which it is chosen by."""

import torch
from torch import Tensor


def hold_out(labels: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Split positions into (kept, held out), each class in proportion; seeded, in rising order.

    A class of two or more gives at least one image and keeps at least one; a class of one keeps it.

    Args:
        labels: int64 `[N]`.
        share: of each class to hold out, in (0, 1).
        seed: of the draw.
    """
    generator = torch.Generator().manual_seed(seed)
    held = torch.zeros(len(labels), dtype=torch.bool)
    for answer in torch.unique(labels).tolist():
        places = (labels == answer).nonzero().squeeze(1).cpu()
        count = min(max(1, round(share * len(places))), len(places) - 1)
        held[places[torch.randperm(len(places), generator=generator)[:count]]] = True
    held = held.to(labels.device)
    return (~held).nonzero().squeeze(1), held.nonzero().squeeze(1)


def thin(rows: Tensor, count: int) -> Tensor:
    """At most `count` of `[N]` rows, evenly spaced, so that rows sorted by class keep their mixture."""
    return rows[:: max(1, -(-len(rows) // count))]
