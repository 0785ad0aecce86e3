"""The classifier that a foreign network came with, for methods that learn from class scores.

Letters: B images, C classes, D width of the image vector.
"""

from collections.abc import Mapping

from torch import Tensor, nn


def linear_classifier(weights: Mapping[str, Tensor], dim: int) -> nn.Linear | None:
    """The layer from image vectors `[B, D]` to class scores `[B, C]`, if these weights are one linear layer alone.

    Args:
        weights: what was left over when an encoder was filled.
        dim: D.

    Returns:
        The layer, or None: there are no such weights, they are of several layers, or they read something else than
        the image vector.
    """
    matrices = [tensor for tensor in weights.values() if tensor.ndim == 2 and tensor.shape[1] == dim]
    others = [tensor for tensor in weights.values() if tensor.ndim != 2 or tensor.shape[1] != dim]
    if len(matrices) != 1 or len(others) > 1 or any(other.shape != matrices[0].shape[:1] for other in others):
        return None
    layer = nn.Linear(dim, len(matrices[0]), bias=bool(others))
    layer.load_state_dict({"weight": matrices[0], **({"bias": others[0]} if others else {})})
    return layer
