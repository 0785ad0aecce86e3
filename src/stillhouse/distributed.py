"""Several processes that train one network; with a single process every function is the identity.

Letters: B rows per process, W processes.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from stillhouse.errors import TrainingError


def rank() -> int:
    """Number of this process, from 0; before and after the processes are joined, the one that `torchrun` gave it."""
    return dist.get_rank() if dist.is_initialized() else (int(os.environ.get("RANK", "0")) if _is_launched() else 0)


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process writes the files and talks to the user."""
    return rank() == 0


def barrier() -> None:
    """Wait for all processes."""
    if world_size() > 1:
        dist.barrier()


def agree(*flags: bool) -> tuple[bool, ...]:
    """For each question, whether any process says yes."""
    if world_size() == 1:
        return flags
    votes = torch.tensor(flags, dtype=torch.uint8)
    dist.all_reduce(votes, dist.ReduceOp.MAX)
    return tuple(map(bool, votes.tolist()))


def position(rows: Tensor) -> int:
    """Where this process's rows begin among those of all processes."""
    return rank() * len(rows)


def gather(rows: Tensor) -> Tensor:
    """Rows of all processes in rank order, with exact gradients.

    The backward pass sums over processes what each sends to a row. Every process then holds the whole batch, computes
    the same loss on it, and the mean over processes that data parallelism takes of the parameter gradients is the
    gradient of a single process with the joined batch.

    Args:
        rows: `[B, ...]`, the same shape in every process.

    Returns:
        `[W * B, ...]`; `rows` itself with one process.
    """
    return rows if world_size() == 1 else _Gather.apply(rows)


def gather_detached(rows: Tensor) -> Tensor:
    """Rows of all processes in rank order, `[W * B, ...]`, without gradient."""
    rows = rows.detach()
    return rows if world_size() == 1 else _all_rows(rows)


@contextmanager
def process_group(device: str) -> Iterator[None]:
    """Join the processes that `torchrun` started, if it did, and leave them at the end.

    Raises:
        TrainingError: the other processes cannot be reached.
    """
    if not _is_launched() or dist.is_initialized():
        yield
        return
    backend, own = "gloo", None
    if device == "cuda":
        own = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(own)
        backend = "cpu:gloo,cuda:nccl"
    try:
        dist.init_process_group(backend, timeout=timedelta(minutes=30), device_id=own)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(f"torchrun: the processes do not find each other ({error}); check MASTER_ADDR") from error
    try:
        yield
    finally:
        dist.destroy_process_group()


def _is_launched() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _all_rows(rows: Tensor) -> Tensor:
    everyone = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world_size())]
    dist.all_gather(everyone, rows.contiguous())
    return torch.cat(everyone)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.num_rows = len(rows)
        return _all_rows(rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        start = rank() * ctx.num_rows
        return gradient[start : start + ctx.num_rows]


def sum_over_processes(values: Tensor) -> Tensor:
    """Elementwise sum over processes; so is the gradient that comes back."""
    return values if world_size() == 1 else _Sum.apply(values)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total
