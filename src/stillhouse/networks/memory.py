"""One stored row for every image of the data.

Letters: B rows per process, N images, D width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillhouse.distributed import gather_detached


class MemoryBank(nn.Module):
    """Unit rows, addressed by the position of their image; each follows what was last seen of it.

    What a batch adds is not to be seen before the step is over: `add` in the forward pass, `advance` after the step.
    Several processes hold the same rows.

    Args:
        num_images: N.
        dim: D.
        momentum: share of the old row that stays.

    Source: Wu et al. 2018; Tian et al. 2020 (CRD). Rows start uniform in a cube, of mean squared length 1.
    """

    rows: Tensor
    """`[N, D]`, float32."""

    def __init__(self, num_images: int, dim: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        bound = (3 / dim) ** 0.5
        self.register_buffer("rows", torch.empty(num_images, dim).uniform_(-bound, bound))
        self._added: list[tuple[Tensor, Tensor]] = []

    def add(self, index: Tensor, rows: Tensor) -> None:
        """Remember unit rows `[B, D]` of the images at `index` `[B]` until `advance`."""
        self._added.append((index, rows.detach()))

    @torch.no_grad()
    def advance(self) -> None:
        """Bring the stored rows of all processes' added images up to date, each normalized again."""
        for index, rows in self._added:
            index, rows = gather_detached(index), gather_detached(rows.to(self.rows.dtype))
            self.rows[index] = F.normalize(self.momentum * self.rows[index] + (1.0 - self.momentum) * rows, dim=1)
        self._added.clear()
