"""Plain convolutional networks, small enough for many users on one core.

Source: the recipe of VGG (Simonyan, Zisserman 2015) with batch normalization, strides instead of pooling; widths ours.
"""

from torch import Tensor, nn

from stillhouse.networks.encoder import Encoder, Features, Normalize

CNN_WIDTHS = {"cnn_nano": (16, 32, 64), "cnn_micro": (16, 32, 64, 128)}


class ConvolutionalNetwork(Encoder):
    """Convolutions 3 x 3, each halving the map; each map, averaged over the image, is a block of the encoder.

    Args:
        widths: channels after each convolution.
        image_size: side in pixels of the images it is meant for.
        mean: colour mean that it subtracts.
        std: colour deviation that it divides by.
    """

    def __init__(
        self, widths: tuple[int, ...], image_size: int, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        super().__init__()
        self.image_size, self.block_dims, self.dim = image_size, widths, widths[-1]
        self.normalize = Normalize(mean, std)
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            )
            for before, width in zip((3, *widths), widths, strict=False)
        )
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")

    def features(self, images: Tensor) -> Features:
        """Global average of every map; tokens are the positions of the last."""
        maps, vectors = self.normalize(images), []
        for stage in self.stages:
            maps = stage(maps)
            vectors.append(maps.mean(dim=(2, 3)))
        return Features(vectors[-1], maps.flatten(2).mT, tuple(vectors))
