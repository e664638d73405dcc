"""Residual networks smaller than torchvision's: one block a stage, and a quarter of the channels for tests."""

from __future__ import annotations

from typing import Any

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from model.encoders.resnet import PLAIN_KERNEL

STEM_WIDTH = 64  # channels of torchvision's plain stem
NARROWING = 4  # the narrow one has a quarter of the channels
BLOCKS = (1, 1, 1, 1)


def resnet10() -> ResNet:
    """Return a network with one basic block a stage and random weights."""
    return ResNet(BasicBlock, list(BLOCKS))


def narrow_resnet10() -> ResNet:
    """Return the same with its channels divided by ``NARROWING``."""
    return _NarrowResNet(BasicBlock, list(BLOCKS))


class _NarrowResNet(ResNet):
    def __init__(self, *args: Any):
        super().__init__(*args)
        width = STEM_WIDTH // NARROWING
        self.conv1 = nn.Conv2d(3, width, PLAIN_KERNEL, stride=2, padding=PLAIN_KERNEL // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)

    def _make_layer(
        self, block: type[BasicBlock | Bottleneck], planes: int, *args: Any, **options: Any
    ) -> nn.Sequential:
        if self.inplanes == planes:  # the first stage, after a stem that is narrowed later
            self.inplanes //= NARROWING
        return super()._make_layer(block, planes // NARROWING, *args, **options)
