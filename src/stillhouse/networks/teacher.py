"""Teachers: one that follows its student, one that never changes."""

import copy
from typing import Any, Generic, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillhouse.networks.encoder import Encoder, Features
from stillhouse.networks.modality import Modality, present

M = TypeVar("M", bound=nn.Module)


class MomentumTeacher(nn.Module, Generic[M]):
    """A copy of a module whose parameters are a moving average of the student's.

    Buffers (running statistics of batch normalization) are the teacher's own: it normalizes by its own batches.
    It drops nothing, whatever its student drops while training (units, paths). Its outputs carry no gradient.

    Source: Tarvainen and Valpola 2017; Grill et al. 2020 (BYOL).
    """

    module: M

    def __init__(self, student: M) -> None:
        super().__init__()
        self.module = copy.deepcopy(student).requires_grad_(False)
        for module in self.module.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            elif hasattr(module, "drop_prob"):  # a layer of timm's that skips a block now and then
                module.drop_prob = 0.0  # type: ignore[assignment]

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
    """An encoder that answers and never changes.

    It is held, not registered: `parameters()`, `state_dict()` and `train()` of whatever contains it pass it by, so no
    optimizer, checkpoint or batch statistic can reach it, while `to()` moves it along. Its outputs carry no gradient.

    Args:
        encoder: network to freeze; copied, so the one passed in stays as it is.
        image_size: side in pixels that images are resized to; 0 is the encoder's own.
        modality: what of the images it is shown.
        classifier: from its image vector `[B, dim]` to class scores `[B, C]`, where it has one; copied as well.
        classes: names of the C classes, where they are known.
    """

    def __init__(
        self,
        encoder: Encoder,
        image_size: int = 0,
        *,
        modality: Modality = "rgb",
        classifier: nn.Module | None = None,
        classes: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self._held = (copy.deepcopy(encoder).requires_grad_(False).eval(),)
        self._classifier = tuple(
            copy.deepcopy(module).requires_grad_(False).eval() for module in (classifier,) if module is not None
        )
        self.image_size = image_size or encoder.image_size
        self.modality, self.classes = modality, classes

    @property
    def encoder(self) -> Encoder:
        """The frozen network."""
        return self._held[0]

    @property
    def dim(self) -> int:
        """Width of its image vector."""
        return self.encoder.dim

    @property
    def num_classes(self) -> int:
        """C, how many classes it tells; 0 without a classifier."""
        if not self._classifier:
            return 0
        weight = next(self.encoder.parameters())
        return self.classify(weight.new_zeros(1, self.dim)).shape[1]

    @torch.no_grad()
    def classify(self, rows: Tensor) -> Tensor:
        """Class scores `[B, C]` of its own image vectors `[B, dim]`; only a teacher with a classifier has any."""
        (classifier,) = self._classifier
        scores: Tensor = classifier(rows)
        return scores

    @torch.no_grad()
    def features(self, images: Tensor) -> Features:
        """Vectors of all depths for images `[B, 3, H, W]` in [0, 1], resized where they are not of the teacher's size.

        Resizing is bilinear with antialiasing; normalization is the encoder's own.
        """
        if images.shape[-1] != self.image_size or images.shape[-2] != self.image_size:
            size = (self.image_size, self.image_size)
            images = F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
        return self.encoder.features(present(images, self.modality))

    def forward(self, images: Tensor) -> Tensor:
        """The image vector, `[B, dim]`."""
        return self.features(images).pooled

    def train(self, mode: bool = True) -> Self:
        """Refuse: a frozen teacher stays in evaluation mode whatever is asked."""
        for module in (*self._held, *self._classifier):
            module.eval()
        return super().train(False)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """What `to()` and its like are made of."""
        for module in (*self._held, *self._classifier):
            module._apply(fn, recurse)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self
