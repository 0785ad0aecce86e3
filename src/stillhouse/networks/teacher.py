"""Teachers that follow their student."""

import copy
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


class MomentumTeacher(nn.Module, Generic[M]):
    """A copy of a module whose parameters are a moving average of the student's.

    Buffers (running statistics of batch normalization) are the teacher's own: it normalizes by its own batches.
    Its outputs carry no gradient.

    Source: Tarvainen and Valpola 2017; Grill et al. 2020 (BYOL).
    """

    module: M

    def __init__(self, student: M) -> None:
        super().__init__()
        self.module = copy.deepcopy(student).requires_grad_(False)

    @torch.no_grad()
    def forward(self, *inputs: Tensor) -> Any:
        """What the copied module answers, without gradient."""
        return self.module(*inputs)

    @torch.no_grad()
    def follow(self, student: nn.Module, momentum: float) -> None:
        """`teacher = momentum * teacher + (1 - momentum) * student`, in place, for every parameter."""
        own: list[Tensor] = list(self.module.parameters())
        other: list[Tensor] = list(student.parameters())
        torch._foreach_lerp_(own, other, 1.0 - momentum)
