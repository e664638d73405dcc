"""The layers of ResNet (He et al. 2016; v1.5, whose blocks have their stride at the 3x3 convolution), and variants.

They are written out because the import of torchvision takes longer than the segmentation of a photo. Tensor names and
the order of random values are torchvision's. ``resnet.py`` computes the layers.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import nn

from model.encoders.variant import EncoderVariant

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


def dilate(stage: nn.Module, number: int, variant: EncoderVariant) -> None:
    """Replace the stride of a stage by dilation, in place; its first block may keep the dilation of the one before."""
    for name, module in stage.named_modules():
        if not isinstance(module, nn.Conv2d):
            continue
        module.stride = (1, 1)
        if module.kernel_size == (3, 3):
            as_before = name.startswith("0.") and not variant.first_block_dilated
            dilation = variant.dilation.get(number - 1 if as_before else number, 1)
            module.dilation = (dilation, dilation)
            module.padding = (dilation, dilation)


def deep_stem(net: Any) -> nn.Sequential:
    """Return three 3x3 convolutions, each with norm and ReLU, and the pool; the first block takes their channels."""
    parts: list[nn.Module] = []
    width = net.conv1.out_channels
    block = net.layer1[0]
    for channels, out, stride in ((3, width, 2), (width, width, 1), (width, 2 * width, 1)):
        parts += [nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
    old = block.conv1
    out = out_channels(block)
    block.conv1 = nn.Conv2d(2 * width, old.out_channels, old.kernel_size, old.stride, old.padding, bias=False)
    block.downsample = nn.Sequential(nn.Conv2d(2 * width, out, 1, bias=False), nn.BatchNorm2d(out))
    return nn.Sequential(*parts, net.maxpool)


def out_channels(block: Any) -> int:
    """Return the channels of a block's output."""
    return (block.bn3 if hasattr(block, "bn3") else block.bn2).num_features
