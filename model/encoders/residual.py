"""The layers of ResNet (He et al. 2016; v1.5, whose blocks have their stride at the 3x3 convolution).

Names of tensors and the order of random values are torchvision's, whose import takes longer than a photo. The
computation of the layers is written in ``resnet.py``.
"""

from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

WIDTH = 64  # of the first stage; each further one has twice as many channels
EXPANSION = 4  # channels of a bottleneck's output per channel inside
CLASSES = 1000


def _convolution(channels: int, out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, bias=False)


class Block(nn.Module):
    """The layers of a residual block: two 3x3 convolutions, or a bottleneck's 1x1, 3x3 and 1x1."""

    def __init__(self, channels: int, width: int, stride: int, bottleneck: bool):
        super().__init__()
        out = EXPANSION * width if bottleneck else width
        has_shortcut_layers = stride > 1 or channels != out
        downsample = None
        if has_shortcut_layers:  # first, as random values are drawn
            downsample = nn.Sequential(_convolution(channels, out, 1, stride), nn.BatchNorm2d(out))
        if bottleneck:
            self.conv1, self.bn1 = _convolution(channels, width, 1), nn.BatchNorm2d(width)
            self.conv2, self.bn2 = _convolution(width, width, 3, stride), nn.BatchNorm2d(width)
            self.conv3, self.bn3 = _convolution(width, out, 1), nn.BatchNorm2d(out)
        else:
            self.conv1, self.bn1 = _convolution(channels, width, 3, stride), nn.BatchNorm2d(width)
            self.conv2, self.bn2 = _convolution(width, out, 3), nn.BatchNorm2d(out)
        self.downsample = downsample


class ResNetLayers(nn.Module):
    """Stem and stages ``layer1`` to ``layer4`` of a ResNet with so many blocks in each stage, with new weights."""

    def __init__(self, blocks: Sequence[int], bottleneck: bool):
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTH)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = WIDTH
        for stage, count in enumerate(blocks):
            width = WIDTH << stage
            out = EXPANSION * width if bottleneck else width
            first = Block(channels, width, stride=1 if stage == 0 else 2, bottleneck=bottleneck)
            others = [Block(out, width, stride=1, bottleneck=bottleneck) for _ in range(count - 1)]
            setattr(self, f"layer{stage + 1}", nn.Sequential(first, *others))
            channels = out
        nn.Linear(channels, CLASSES)  # the classifier, whose random values come before those below
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


SMALL = "resnet10"  # one block a stage; torchvision has none
LAYERS: dict[str, Callable[[], nn.Module]] = {  # of each network
    SMALL: partial(ResNetLayers, (1, 1, 1, 1), bottleneck=False),
    "resnet18": partial(ResNetLayers, (2, 2, 2, 2), bottleneck=False),
    "resnet34": partial(ResNetLayers, (3, 4, 6, 3), bottleneck=False),
    "resnet50": partial(ResNetLayers, (3, 4, 6, 3), bottleneck=True),
    "resnet101": partial(ResNetLayers, (3, 4, 23, 3), bottleneck=True),
}
