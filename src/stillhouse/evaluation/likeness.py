"""How alike two representations of the same images are: centred kernel alignment.

Letters: N images, P and Q widths.
Sources: Kornblith et al. 2019 (linear CKA); Nguyen et al. 2021 (unbiased estimate over batches).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

BATCH = 512
"""Images whose pairs are compared at once; the three sums are averaged over batches before their ratio."""


def cka(first: Tensor, second: Tensor, *, batch_size: int = BATCH) -> float:
    """Linear CKA of `[N, P]` and `[N, Q]`, unbiased: 1 for equals up to rotation, scale and shift, 0 for strangers.

    Args:
        first: vectors of N > 3 images.
        second: other vectors of the same images.
        batch_size: images at once, more than 3; a last batch of fewer than four is left out.
    """
    return layer_likeness([first, second], batch_size=batch_size)[0, 1].item()


def layer_likeness(layers: Sequence[Tensor], *, batch_size: int = BATCH) -> Tensor:
    """CKA of every layer with every other, float64 `[L, L]` with ones on the diagonal.

    Args:
        layers: vectors of the same N > 3 images after each of L blocks, `[N, D_l]` each.
        batch_size: as for `cka`.
    """
    count = len(layers[0])
    together = torch.zeros(len(layers), len(layers), dtype=torch.float64)
    for rows in torch.split(torch.arange(count), batch_size):
        if len(rows) > 3:
            kernels = [_kernel(layer[rows.to(layer.device)]) for layer in layers]
            together += torch.stack([torch.stack([_hsic(one, two) for two in kernels]) for one in kernels]).cpu()
    scale = together.diagonal().clamp(min=torch.finfo(together.dtype).tiny).sqrt()
    return together / scale[:, None] / scale


def _kernel(rows: Tensor) -> Tensor:
    rows = rows.double()
    rows = rows - rows.mean(0)
    return (rows @ rows.mT).fill_diagonal_(0)


def _hsic(one: Tensor, two: Tensor) -> Tensor:
    """The unbiased estimate, from kernels `[n, n]` with an empty diagonal."""
    count = len(one)
    total = (one * two).sum() + one.sum() * two.sum() / ((count - 1) * (count - 2))
    return (total - 2 / (count - 2) * (one.sum(0) @ two.sum(0))) / (count * (count - 3))
