"""Does a search by an image bring up images of its class? Leave-one-out, by cosine.

Letters: N images, D width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 256


@dataclass(frozen=True)
class Retrieval:
    """Means over all images that have another of their class; each asks for all the others."""

    images: int
    recall: tuple[float, float, float]
    """Share of images with one of their class among the first 1, 5 and 10."""
    mean_average_precision: float
    """Mean over all places of a right image of the share of right ones up to there."""
    precision_at_r: float
    """The same sum over the first R places only, over R: the number of others in the class (mAP@R)."""


def retrieve(features: Tensor, labels: Tensor) -> Retrieval:
    """Search every image among all the others; of equals the lowest position comes first.

    Args:
        features: vectors, `[N, D]`.
        labels: int64 `[N]`.
    """
    rows = F.normalize(features.float(), dim=1)
    found = [_search(rows, labels, start, min(start + CHUNK, len(rows))) for start in range(0, len(rows), CHUNK)]
    scores = torch.cat(found)
    means = scores.mean(0).tolist() if len(scores) else [float("nan")] * 5
    return Retrieval(len(scores), (means[0], means[1], means[2]), means[3], means[4])


def _search(rows: Tensor, labels: Tensor, start: int, stop: int) -> Tensor:
    """Recall at 1, 5 and 10, average precision and mAP@R of images that have others of their class, `[n, 5]`."""
    cosines = rows[start:stop] @ rows.mT
    own = torch.arange(start, stop, device=rows.device)
    cosines[torch.arange(stop - start, device=rows.device), own] = -torch.inf  # oneself comes last, and is cut off
    order = cosines.sort(dim=1, descending=True, stable=True).indices[:, :-1]
    right = labels[order] == labels[own][:, None]
    count = right.sum(1)
    right, count = right[count > 0], count[count > 0]
    place = torch.arange(1, right.shape[1] + 1, device=rows.device)
    precision = right * right.cumsum(1).double() / place
    recalls = [right[:, :first].any(1).double() for first in (1, 5, 10)]
    average = precision.sum(1) / count
    at_r = (precision * (place <= count[:, None])).sum(1) / count
    return torch.stack([*recalls, average, at_r], dim=1)
