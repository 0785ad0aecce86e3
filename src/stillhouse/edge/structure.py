"""Whether a tensor that somebody sent can take the place of one that was sent out; any input is survived."""

import torch
from torch import Tensor

LARGEST_COUNT = 2**53


def misfit(name: str, found: object, sent: Tensor) -> str:
    """What is wrong with one tensor, in words; empty where all is well.

    Args:
        name: tells what it is: a running variance is 0 or more.
        found: anything.
        sent: has the type and the shape that are wanted.
    """
    plain = isinstance(found, Tensor) and found.layout == torch.strided and found.device.type == "cpu"
    if not isinstance(found, Tensor) or not plain or found.is_quantized:
        return "not a plain tensor on the CPU"
    if found.dtype != sent.dtype:
        return f"{found.dtype}, but {sent.dtype} was sent"
    if found.shape != sent.shape:
        return f"shape {list(found.shape)}, but {list(sent.shape)} was sent"
    if found.is_floating_point() or found.is_complex():
        if not torch.isfinite(found).all():
            return "holds values that are not finite"
        if name.endswith("running_var") and (found < 0).any():
            return "a variance is negative"
    elif not ((count := found.to(torch.int64)) >= 0).logical_and(count < LARGEST_COUNT).all():
        return "a count is negative or beyond all counting"
    return ""
