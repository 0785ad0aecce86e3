"""Weighted k-NN on frozen vectors: the quality of the metric itself, with nothing trained.

Letters: Q queries, N bank images, D width, C classes.
Sources: Wu et al. 2018 (InstDisc) and Caron et al. 2021 (DINO); k 20 and temperature 0.07 as in the latter.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK_ELEMENTS = 2**24  # similarities held at once: 64 MiB
BANK_CHUNK = 2**16


def nearest(queries: Tensor, bank: Tensor, k: int, exclude: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The k bank rows of highest cosine for each query, best first; of equal ones the lowest index comes first.

    Exact, in float32. Rows are normalized here. Fewer than k are returned where the bank has fewer to offer.

    Args:
        queries: `[Q, D]`.
        bank: `[N, D]`.
        k: neighbours wanted.
        exclude: int64 `[Q]`, for each query the bank row that it must not find: itself.

    Returns:
        Cosines `[Q, K]` and bank indices int64 `[Q, K]`, K = min(k, N), or min(k, N - 1) with `exclude`.
    """
    k = min(k, len(bank) - (exclude is not None))
    queries, bank = F.normalize(queries.float(), dim=1), F.normalize(bank.float(), dim=1)
    rows = max(1, CHUNK_ELEMENTS // max(1, min(len(bank), BANK_CHUNK)))
    cosines, indices = [], []
    with torch.autocast(queries.device.type, enabled=False):
        for start in range(0, len(queries), rows):
            hidden = None if exclude is None else exclude[start : start + rows]
            best = _search(queries[start : start + rows], bank, k, hidden)
            cosines.append(best[0])
            indices.append(best[1])
    if not cosines:
        return queries.new_empty(0, k), torch.empty(0, k, dtype=torch.int64, device=queries.device)
    return torch.cat(cosines), torch.cat(indices)


def vote(cosines: Tensor, labels: Tensor, temperature: float, num_classes: int) -> Tensor:
    """Share of the vote of each class: neighbours weigh `exp(cosine / temperature)`.

    Args:
        cosines: `[Q, K]`.
        labels: int64 `[Q, K]`, classes of the neighbours.
        temperature: of the weights.
        num_classes: C.

    Returns:
        `[Q, C]`, rows add up to 1.
    """
    weights = F.softmax(cosines / temperature, dim=1)
    shares = weights.new_zeros(len(weights), num_classes)
    for place in range(weights.shape[1]):  # one neighbour at a time: additions in the same order on every device
        shares.scatter_add_(1, labels[:, place : place + 1], weights[:, place : place + 1])
    return shares


def classify(
    queries: Tensor, bank: Tensor, labels: Tensor, *, k: int, temperature: float, exclude: Tensor | None = None
) -> Tensor:
    """Class int64 `[Q]` that the k nearest bank rows vote for; of equal shares the lowest class wins.

    Args:
        queries: `[Q, D]`.
        bank: `[N, D]`, at least one row (two with `exclude`).
        labels: int64 `[N]`, classes of the bank, 0 or more.
        k: neighbours that vote; all of a smaller bank.
        temperature: of the votes.
        exclude: int64 `[Q]`, the bank row that is the query itself.
    """
    cosines, indices = nearest(queries, bank, k, exclude)
    return vote(cosines, labels[indices], temperature, int(labels.max()) + 1).argmax(dim=1)


def _search(queries: Tensor, bank: Tensor, k: int, exclude: Tensor | None) -> tuple[Tensor, Tensor]:
    """Best k so far while walking through the bank; earlier rows precede equal later ones."""
    cosines = queries.new_empty(len(queries), 0)
    indices = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    for start in range(0, len(bank), BANK_CHUNK):
        found = queries @ bank[start : start + BANK_CHUNK].mT
        if exclude is not None:
            here = (exclude >= start) & (exclude < start + found.shape[1])
            found[here.nonzero().squeeze(1), exclude[here] - start] = -torch.inf
        values, places = _best(found, min(k, found.shape[1]))
        cosines, indices = torch.cat([cosines, values], dim=1), torch.cat([indices, places + start], dim=1)
        order = cosines.sort(dim=1, descending=True, stable=True)
        cosines, indices = order.values[:, :k], indices.gather(1, order.indices[:, :k])
    return cosines, indices


def _best(found: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row, in order of index; where the last place is contested, the lowest index gets it."""
    values, places = found.topk(min(k + 1, found.shape[1]), dim=1)
    if found.shape[1] > k:
        contested = (values[:, k - 1] == values[:, k]).nonzero().squeeze(1)
        places = places[:, :k]
        if len(contested):
            places[contested] = _first_of_equals(found[contested], values[contested, k - 1 : k], k)
    places = places.sort(dim=1).values
    return found.gather(1, places), places


def _first_of_equals(found: Tensor, last: Tensor, k: int) -> Tensor:
    """Places `[Q, k]` of all values above `last` `[Q, 1]` and of the first ones equal to it."""
    above, equal = found > last, found == last
    left = k - above.sum(dim=1, keepdim=True)
    taken = above | (equal & (equal.cumsum(dim=1) <= left))
    return taken.nonzero()[:, 1].view(-1, k)
