"""What an encoder must beat: the pixels themselves."""

import torch
from torch import Tensor
from torch.nn import functional as F

from stillhouse.networks.encoder import Encoder, Features

LARGEST_SIDE = 32


class Pixels(Encoder):
    """Not a network: the image as it is seen by an encoder, shrunk to at most 32 pixels a side and laid flat.

    Args:
        image_size: side of the images in pixels.
    """

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.image_size = image_size
        self.side = min(image_size, LARGEST_SIDE)
        self.dim = 3 * self.side**2
        self.block_dims = (self.dim,)
        self.register_buffer("place", torch.empty(0), persistent=False)  # so that it has a device to be moved to

    def features(self, images: Tensor) -> Features:
        """The pixels in [0, 1], `[B, 3 * side * side]`; tokens are the colours of each pixel."""
        if images.shape[-1] != self.side:
            images = F.interpolate(images, (self.side, self.side), mode="bilinear", antialias=True)
        flat = images.flatten(1)
        return Features(flat, images.flatten(2).mT, (flat,))
