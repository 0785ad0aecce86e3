"""Residual networks of torchvision behind the encoder's promise, with stems for small and for large images.

Source: He et al. 2016; the stem for small images as in SimCLR's CIFAR experiments (Chen et al. 2020, appendix B.9).
"""

from typing import Literal

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.resnet import ResNet as TorchvisionResNet

from stillhouse.networks.encoder import Encoder, Features, Normalize

Stem = Literal["cifar", "compact", "imagenet"]

RESNET_SHAPES: dict[str, tuple[type[BasicBlock | Bottleneck], list[int]]] = {
    "resnet10": (BasicBlock, [1, 1, 1, 1]),
    "resnet18": (BasicBlock, [2, 2, 2, 2]),
    "resnet34": (BasicBlock, [3, 4, 6, 3]),
    "resnet50": (Bottleneck, [3, 4, 6, 3]),
}


class ResNet(Encoder):
    """Four stages; each, averaged over the image, is a block of the encoder.

    Args:
        name: a key of `RESNET_SHAPES`.
        image_size: side in pixels of the images it is meant for.
        stem: `cifar` 3x3 at full resolution, `compact` 3x3 with stride 2 (a quarter of the work), both without
            pooling; `imagenet` 7x7 with stride 2 and pooling.
    """

    def __init__(self, name: str, image_size: int, stem: Stem, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        block, layers = RESNET_SHAPES[name]
        self.image_size = image_size
        self.block_dims = tuple(width * block.expansion for width in (64, 128, 256, 512))
        self.dim = self.block_dims[-1]
        self.depth = len(self.block_dims)
        """Stages that are passed."""
        self.normalize = Normalize(mean, std)
        self.network = TorchvisionResNet(block, layers)
        self.network.fc = nn.Identity()
        if stem != "imagenet":
            self.network.conv1 = nn.Conv2d(3, 64, 3, stride=2 if stem == "compact" else 1, padding=1, bias=False)
            nn.init.kaiming_normal_(self.network.conv1.weight, mode="fan_out", nonlinearity="relu")
            self.network.maxpool = nn.Identity()

    def features(self, images: Tensor) -> Features:
        """Global average of every stage; tokens are the positions of the last."""
        net = self.network
        maps = net.maxpool(net.relu(net.bn1(net.conv1(self.normalize(images)))))
        vectors = []
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4)[: self.depth]:
            maps = stage(maps)
            vectors.append(maps.mean(dim=(2, 3)))
        return Features(vectors[-1], maps.flatten(2).mT, tuple(vectors))
