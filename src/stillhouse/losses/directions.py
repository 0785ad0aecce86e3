"""What all losses on directions begin with."""

import torch
from torch import Tensor
from torch.nn import functional as F


def unit(rows: Tensor) -> Tensor:
    """Rows `[..., D]` brought to length 1, in at least float32."""
    return F.normalize(rows.to(torch.promote_types(rows.dtype, torch.float32)), dim=-1)
