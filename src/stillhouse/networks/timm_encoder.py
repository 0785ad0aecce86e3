"""Any image model of timm behind the encoder's promise.

Source: Wightman, PyTorch Image Models; `forward_intermediates` gives the depths.
"""

from contextlib import suppress
from typing import Any

import timm
import torch
from torch import Tensor

from stillhouse.errors import SettingsError
from stillhouse.networks.encoder import Encoder, Features, Normalize


class TimmEncoder(Encoder):
    """A timm model by name, randomly initialized, without its classifier.

    Depths are what the model's own `forward_intermediates` yields: blocks of a transformer (class token, or mean where
    there is none, through the model's final norm) or stages of a convolutional network (mean over the image).

    Raises:
        SettingsError: timm does not know the name, or the model refuses the image size.
    """

    def __init__(self, name: str, image_size: int) -> None:
        super().__init__()
        self.image_size = image_size
        self.name = name
        self.network, self.arguments = _create(name, image_size, num_classes=0)
        """The model, and what `timm.create_model` makes it with."""
        defaults = self.network.pretrained_cfg
        self.normalize = Normalize(tuple(defaults["mean"]), tuple(defaults["std"]))
        self._prefix_tokens = int(getattr(self.network, "num_prefix_tokens", 0) or 0)
        self._depths = 0  # all
        self.block_dims = self._measure(name)
        self.dim = self.block_dims[-1]

    def features(self, images: Tensor) -> Features:
        """Vectors of all depths the model offers."""
        images = self.normalize(images)
        if self._depths:
            return self._features_of_lower_blocks(images)
        if self._prefix_tokens:
            last, depths = self.network.forward_intermediates(images, norm=True, return_prefix_tokens=True)
            vectors = [prefix[:, 0] for _, prefix in depths]
        else:
            arguments = {"norm": True} if self._can_norm else {}
            last, depths = self.network.forward_intermediates(images, **arguments)
            vectors = [maps.mean(dim=(2, 3)) for maps in depths]
        pooled = self.network.forward_head(last, pre_logits=True)
        vectors[-1] = pooled
        return Features(pooled, self._regions(last), tuple(vectors))

    def cut(self, depth: int) -> None:
        """Drop what lies above a depth, in place; then the image vector is the vector of that depth.

        Raises:
            SettingsError: timm cannot cut this model.
        """
        if depth == len(self.block_dims):
            return
        if not hasattr(self.network, "prune_intermediate_layers"):
            raise SettingsError(f"exit {depth}: timm cannot cut {type(self.network).__name__}; export its last depth")
        self.network.prune_intermediate_layers(list(range(depth)), prune_norm=False, prune_head=True)
        self._depths, self.block_dims = depth, self.block_dims[:depth]
        self.dim = self.block_dims[-1]

    def _features_of_lower_blocks(self, images: Tensor) -> Features:
        arguments: dict[str, Any] = {"norm": True} if self._can_norm or self._prefix_tokens else {}
        arguments |= {"return_prefix_tokens": True} if self._prefix_tokens else {}
        depths = self.network.forward_intermediates(
            images, indices=list(range(self._depths)), stop_early=True, intermediates_only=True, **arguments
        )
        if self._prefix_tokens:
            vectors, last = [prefix[:, 0] for _, prefix in depths], depths[-1][0]
        else:
            vectors, last = [maps.mean(dim=(2, 3)) for maps in depths], depths[-1]
        return Features(vectors[-1], last.flatten(2).mT, tuple(vectors))

    @property
    def _can_norm(self) -> bool:
        return bool(self.network.num_features == getattr(self.network, "embed_dim", -1))

    def _regions(self, last: Tensor) -> Tensor:
        """Region vectors `[B, T, D]` from a token sequence or from a map in either layout."""
        if last.ndim == 3:
            return last[:, self._prefix_tokens :]
        return last.flatten(1, 2) if getattr(self.network, "output_fmt", "NCHW") == "NHWC" else last.flatten(2).mT

    def _measure(self, name: str) -> tuple[int, ...]:
        mode = self.training
        self.eval()
        try:
            with torch.no_grad():
                vectors = self.features(torch.zeros(1, 3, self.image_size, self.image_size)).blocks
        except (RuntimeError, AssertionError, ValueError) as error:
            raise SettingsError(
                f"encoder.name: timm:{name} does not run at {self.image_size} px ({error}); set encoder.image_size"
            ) from error
        finally:
            self.train(mode)
        return tuple(vector.shape[1] for vector in vectors)


def published_encoder(name: str, image_size: int) -> tuple[TimmEncoder, dict[str, Tensor]]:
    """A timm model with its published weights, and those weights that an encoder does not have: its classifier's.

    Raises:
        SettingsError: timm does not know the name, the weights cannot be fetched, or the model refuses the image size.
    """
    encoder = TimmEncoder(name, image_size)
    try:
        weights: dict[str, Tensor] = _create(name, image_size, pretrained=True)[0].state_dict()
    except (OSError, RuntimeError) as error:
        told = str(error).splitlines()[0]
        raise SettingsError(f"timm:{name}: its weights cannot be fetched ({told}); name a file of weights") from error
    own = encoder.network.state_dict()
    encoder.network.load_state_dict({key: weights.pop(key) for key in own})
    return encoder, weights


def published_size(name: str) -> int:
    """Side in pixels of the images that a timm model was made for; `SettingsError` when timm does not know it."""
    _check_known(name)
    config = timm.get_pretrained_cfg(name)
    return int(config.input_size[-1]) if config else 224


def _check_known(name: str) -> None:
    if not timm.is_model(name.partition(".")[0]):
        near = timm.list_models(f"*{name.split('_')[0]}*")[:5]
        raise SettingsError(f"timm:{name}: timm knows no such model; near: {', '.join(near) or 'nothing'}")


def _create(name: str, image_size: int, **arguments: Any) -> tuple[Any, dict[str, Any]]:
    """A model, and the arguments that it took."""
    _check_known(name)
    fixed: dict[str, Any] = {"img_size": image_size, **arguments}
    for tried in ({**fixed, "strict_img_size": False}, fixed):
        with suppress(TypeError):  # networks that take any size know neither, and not all that want one the second
            return timm.create_model(name, **tried), tried
    return timm.create_model(name, **arguments), arguments
