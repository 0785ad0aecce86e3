"""Any image classifier of torchvision behind the encoder's promise, for use as a teacher."""

import difflib
from typing import Any

from torch import Tensor, nn
from torchvision import models

from stillhouse.errors import SettingsError
from stillhouse.networks.encoder import Encoder, Features, Normalize

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class TorchvisionEncoder(Encoder):
    """A torchvision classifier without its classifier; its only depth is the vector that the classifier read.

    Args:
        name: as `torchvision.models.get_model` knows it.
        image_size: side in pixels of the images it is meant for.
        pretrained: fetch the library's default weights.

    Raises:
        SettingsError: torchvision does not know the name, or the weights cannot be fetched.
    """

    def __init__(self, name: str, image_size: int, *, pretrained: bool) -> None:
        super().__init__()
        self.image_size = image_size
        self.network = _create(name, pretrained)
        self.normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD)
        self.dim = _take_classifier_off(self.network, name)
        self.block_dims = (self.dim,)

    def features(self, images: Tensor) -> Features:
        """The image vector; regions are not told apart, so it is the only token as well."""
        pooled = self.network(self.normalize(images)).flatten(1)
        return Features(pooled, pooled[:, None], (pooled,))


def _create(name: str, pretrained: bool) -> nn.Module:
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
    return network


def _take_classifier_off(network: nn.Module, name: str) -> int:
    """Replace the classifier by nothing; the width of what it read."""
    for place in ("fc", "classifier", "heads", "head"):
        head: Any = getattr(network, place, None)
        linear = [module for module in head.modules() if isinstance(module, nn.Linear)] if head is not None else []
        if linear:
            setattr(network, place, nn.Identity())
            return int(linear[0].in_features)
    raise SettingsError(f"teacher.source: torchvision:{name} has no linear classifier to take off; choose another")
