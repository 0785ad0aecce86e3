"""The running mean that keeps a teacher from giving every image the same answer.

Letters: B rows per process, K width.
"""

import torch
from torch import Tensor, nn

from stillhouse.distributed import sum_over_processes, world_size


class Center(nn.Module):
    """Moving average of the mean row; starts at 0.

    What a batch adds is not to be seen before the step is over: `add` in the forward pass, `advance` after the step.

    Source: Caron et al. 2021 (DINO), equation 4.
    """

    value: Tensor
    """The center, float32 `[K]`."""

    def __init__(self, dim: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("value", torch.zeros(dim))
        self._added: list[Tensor] = []
        self._num_rows = 0

    @torch.no_grad()
    def add(self, rows: Tensor) -> None:
        """Remember the mean of `[B, K]` rows until `advance`; every process adds as many."""
        self._added.append(rows.detach().to(self.value.dtype).sum(0))
        self._num_rows += len(rows)

    @torch.no_grad()
    def advance(self) -> None:
        """Move towards the mean of all rows that all processes added."""
        if not self._added:
            return
        mean = sum_over_processes(torch.stack(self._added).sum(0)) / (self._num_rows * world_size())
        self._added.clear()
        self._num_rows = 0
        self.value.lerp_(mean, 1.0 - self.momentum)
