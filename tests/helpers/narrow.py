"""The tests' encoder ``resnet10_narrow``: ResNet-10 with a quarter of its channels. Importing this registers it."""

from typing import Any

from torch import nn
from torchvision.models import resnet

from model.encoders.registry import register_encoder
from model.encoders.residual import LAYERS
from model.encoders.resnet import ResNetEncoder
from model.encoders.variant import DEEP, PLAIN, STRIDES

NARROW = "resnet10_narrow"
NARROWING = 4


class Narrow(resnet.ResNet):
    def _make_layer(self, block: Any, planes: int, *args: Any, **options: Any) -> nn.Sequential:
        if self.inplanes == planes:  # the first stage, after a stem that is narrowed below
            self.inplanes //= NARROWING
        return super()._make_layer(block, planes // NARROWING, *args, **options)


def _narrow() -> resnet.ResNet:
    net = Narrow(resnet.BasicBlock, [1, 1, 1, 1])
    width = net.conv1.out_channels // NARROWING
    net.conv1, net.bn1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(width)
    return net


LAYERS[NARROW] = _narrow
register_encoder(NARROW, "narrow ResNet-10", stems=(PLAIN, DEEP), strides=STRIDES)(ResNetEncoder)
