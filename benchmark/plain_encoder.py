"""An encoder as in torchvision: convolution, batch norm and ReLU one after the other. The unit of ``speed``."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.encoders.encoder import Encoder
from model.encoders.features import Features
from model.encoders.resnet import Block, ResNetEncoder


class PlainEncoder(nn.Module):
    """The same weights, in torch's default memory format, and the same numbers; each layer is called on its own.

    VGG and Swin are plain already; their own ``forward`` is called.
    """

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = copy.deepcopy(encoder).to(memory_format=torch.contiguous_format)

    def forward(self, image_b3hw: Tensor, intermediate: bool = False) -> Features:
        """Return the features of normalised images; see ``Encoder.forward``."""
        encoder = self.encoder
        if not isinstance(encoder, ResNetEncoder):
            return encoder(image_b3hw, intermediate=intermediate)
        out = Features({}, {})
        x = encoder.stage(0)(image_b3hw)
        for i in range(1, encoder.last_stage + 1):
            maps: list[Tensor] = []
            for block in encoder.stage(i):
                maps.append(_residual(block, x))
                x = F.relu(maps[-1])
            if i == encoder.last_stage and not encoder.variant.final_relu:
                x = maps[-1]
            if i in encoder.returned_stages:
                count = encoder.intermediate_counts.get(i, 0) if intermediate else 0
                out.stage[i], out.intermediate[i] = x, maps[len(maps) - count :]
        return out


def _residual(block: Block, x: Tensor) -> Tensor:
    """Return the output of a residual block before its last ReLU."""
    shortcut = x if block.downsample is None else block.downsample(x)
    x = block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x)))))
    if hasattr(block, "conv3"):
        x = block.bn3(block.conv3(block.relu(x)))
    return x + shortcut
