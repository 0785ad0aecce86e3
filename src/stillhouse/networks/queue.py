"""The newest rows of the past, for losses that compare with more than the batch.

Letters: B rows per process, K rows kept, D width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillhouse.distributed import gather_detached


class Queue(nn.Module):
    """A ring of unit vectors; the oldest make room for the newest. Starts with random directions.

    Rows that a batch adds are not to be seen before the step is over: `add` in the forward pass, `advance` after the
    step. Kept in float32 whatever comes in, unless the module is moved to another dtype. Several processes hold the
    same rows.

    Args:
        size: K, rows kept.
        dim: D, width.

    Source: He et al. 2020 (MoCo), section 3.2.
    """

    rows: Tensor
    """Unit rows, `[K, D]`."""
    position: Tensor
    """Where the next row goes, int64 scalar."""

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("rows", F.normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))
        self._added: list[Tensor] = []

    def add(self, rows: Tensor) -> None:
        """Remember `[B, D]` rows until `advance`."""
        self._added.append(rows.detach())

    @torch.no_grad()
    def advance(self) -> None:
        """Write the added rows of every process over the oldest, normalized; of more than K only the last K stay."""
        if not self._added:
            return
        rows = F.normalize(gather_detached(torch.cat(self._added).to(self.rows.dtype)), dim=1)
        self._added.clear()
        size = len(self.rows)
        places = (self.position + torch.arange(len(rows), device=rows.device)) % size
        self.rows[places[-size:]] = rows[-size:]
        self.position.copy_((self.position + len(rows)) % size)
