"""Teachers: one that follows its student, one that never changes."""

import copy
from typing import Any, Generic, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillhouse.networks.classifier import Classifier
from stillhouse.networks.encoder import Encoder, Features

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


class FrozenTeacher(nn.Module):
    """An encoder or a classifier that answers and never changes.

    It is held, not registered: `parameters()`, `state_dict()` and `train()` of whatever contains it pass it by, so no
    optimizer, checkpoint or batch statistic can reach it, while `to()` moves it along. Its outputs carry no gradient.

    Args:
        network: what to freeze; copied, so the one passed in stays as it is.
        image_size: side in pixels that images are resized to; 0 is the network's own.
    """

    def __init__(self, network: Encoder | Classifier, image_size: int = 0) -> None:
        super().__init__()
        self._held = (copy.deepcopy(network).requires_grad_(False).eval(),)
        self.image_size = image_size or network.image_size

    @property
    def network(self) -> Encoder | Classifier:
        """What is frozen."""
        return self._held[0]

    @property
    def encoder(self) -> Encoder:
        """The frozen encoder; a classifier's, where that is what is frozen."""
        network = self.network
        return network.encoder if isinstance(network, Classifier) else network

    @property
    def dim(self) -> int:
        """Width of its answer: of an encoder's image vector, or the number of a classifier's classes."""
        return self.network.dim

    @torch.no_grad()
    def features(self, images: Tensor) -> Features:
        """Vectors of all depths for images `[B, 3, H, W]` in [0, 1], resized where they are not of the teacher's size.

        Resizing is bilinear with antialiasing; normalization is the encoder's own.
        """
        return self.encoder.features(self._resized(images))

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """The image vector or the class scores, `[B, dim]`, of images resized as in `features`."""
        return self.network(self._resized(images))  # type: ignore[no-any-return]

    def train(self, mode: bool = True) -> Self:
        """Refuse: a frozen teacher stays in evaluation mode whatever is asked."""
        self.network.eval()
        return super().train(False)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """What `to()` and its like are made of."""
        self.network._apply(fn, recurse)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _resized(self, images: Tensor) -> Tensor:
        if images.shape[-1] == self.image_size and images.shape[-2] == self.image_size:
            return images
        size = (self.image_size, self.image_size)
        return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
