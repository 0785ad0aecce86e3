"""Networks of other people that give one vector per image, behind the encoder's promise; for use as teachers."""

import difflib
from typing import Any

import torch
from torch import Tensor, nn

from stillhouse.errors import SettingsError
from stillhouse.networks.encoder import Encoder, Features, Normalize, undisturbed

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class PlainEncoder(Encoder):
    """Any module from normalized images `[B, 3, H, W]` to vectors; its only depth is that vector.

    Args:
        network: what it answers is flattened to `[B, D]`.
        image_size: side in pixels of the images it is meant for.
        mean: colour mean that it was trained with, subtracted here.
        std: colour deviation, divided by here.

    Raises:
        SettingsError: the network does not run on images of that size.
    """

    def __init__(
        self,
        network: nn.Module,
        image_size: int,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.network = network
        self.normalize = Normalize(mean, std)
        try:
            with undisturbed(self):
                self.dim = self.features(torch.zeros(1, 3, image_size, image_size)).pooled.shape[1]
        except (RuntimeError, AssertionError, ValueError) as error:
            raise SettingsError(
                f"teacher.image_size: the network does not run on RGB images of {image_size} px ({error})"
            ) from error
        self.block_dims = (self.dim,)

    def features(self, images: Tensor) -> Features:
        """The image vector; regions are not told apart, so it is the only token as well."""
        pooled: Tensor = self.network(self.normalize(images)).flatten(1)
        return Features(pooled, pooled[:, None], (pooled,))


def torchvision_encoder(name: str, image_size: int, *, pretrained: bool) -> tuple[PlainEncoder, dict[str, Tensor]]:
    """A torchvision network without its classifier, whose vector is what the classifier read; and the latter's weights.

    Args:
        name: as `torchvision.models.get_model` knows it.
        image_size: side in pixels of the images it is meant for.
        pretrained: fetch the library's default weights.

    Raises:
        SettingsError: torchvision does not know the name, the weights cannot be fetched, or the size does not suit.
    """
    from torchvision import models  # takes half a second

    known = models.list_models(module=models)
    if name not in known:
        near = difflib.get_close_matches(name, known, 1, 0.0)[0]
        raise SettingsError(f"teacher.source: torchvision knows no {name}; did you mean {near}?")
    try:
        network: nn.Module = models.get_model(name, weights="DEFAULT" if pretrained else None)
    except (OSError, RuntimeError) as error:
        raise SettingsError(
            f"teacher.source: the weights of torchvision:{name} cannot be fetched ({error}); "
            "pass a file with --teacher-weights"
        ) from error
    taken = _take_classifier_off(network, name)
    return PlainEncoder(network, image_size), taken


def _take_classifier_off(network: nn.Module, name: str) -> dict[str, Tensor]:
    for place in ("fc", "classifier", "heads", "head"):
        head: Any = getattr(network, place, None)
        if head is not None and any(isinstance(module, nn.Linear) for module in head.modules()):
            setattr(network, place, nn.Identity())
            weights: dict[str, Tensor] = head.state_dict()
            return weights
    raise SettingsError(f"teacher.source: torchvision:{name} has no linear classifier to take off; choose another")
