"""The projection of mid-level encoder features for masked averages and attention."""

from __future__ import annotations

from torch import nn

WIDTH = 256  # channels of projected features and prototypes
DROPOUT = 0.5  # of whole channels, in training


def projection(channels: int) -> nn.Sequential:
    """Return a 1x1 convolution without bias to ``WIDTH`` channels, ReLU and channel dropout."""
    return nn.Sequential(nn.Conv2d(channels, WIDTH, 1, bias=False), nn.ReLU(inplace=True), nn.Dropout2d(DROPOUT))
