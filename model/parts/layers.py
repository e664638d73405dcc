"""Layers that several methods share: projection, fusion, refinement, head, decoders of one and of several scales."""

from collections import OrderedDict
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.encoders.encoder import Encoder
from model.tensors.ops import resize
from model.wants import LOW, MID

WIDTH = 256  # channels of projected features and prototypes
DROPOUT, HEAD_DROPOUT = 0.5, 0.1  # of whole channels, in training


def pointwise(channels: int, out: int) -> nn.Sequential:
    """Return a 1x1 convolution without bias and a ReLU."""
    return nn.Sequential(nn.Conv2d(channels, out, 1, bias=False), nn.ReLU(inplace=True))


def projection(channels: int) -> nn.Sequential:
    """Return a 1x1 convolution without bias to ``WIDTH`` channels, ReLU and channel dropout."""
    return nn.Sequential(*pointwise(channels, WIDTH), nn.Dropout2d(DROPOUT))


def feature_projections(encoder: Encoder) -> tuple[nn.Sequential, nn.Sequential]:
    """Return the projections of ``mid_features`` of queries and of supports."""
    channels = encoder.channels[MID] + encoder.channels[LOW]
    return projection(channels), projection(channels)


def fuse(weight_oc11: Tensor, feature_bchw: Tensor, prototype_bc: Tensor, *maps_bnhw: Tensor) -> Tensor:
    """Return W [feature; prototype; maps], (B, O, H, W); the prototype, equal at all positions, is multiplied once.

    So it equals ``F.conv2d(torch.cat([feature, prototype.expand_as(feature), *maps], dim=1), weight)``.
    """
    inputs = (feature_bchw, prototype_bc, *maps_bnhw)
    of_feature, of_prototype, *of_maps = weight_oc11.split([x.shape[1] for x in inputs], dim=1)
    everywhere = F.linear(prototype_bc, of_prototype[:, :, 0, 0])
    fused = F.conv2d(feature_bchw, of_feature) + everywhere[:, :, None, None]
    for map_bnhw, of_map in zip(maps_bnhw, of_maps, strict=True):
        if map_bnhw.shape[1] == 1:  # a convolution of one channel would have a layout of its own
            weight = of_map.to(fused.dtype).view(1, -1, 1, 1)
            fused = torch.addcmul(fused, map_bnhw.to(fused.dtype), weight)
        else:
            fused = fused + F.conv2d(map_bnhw, of_map)
    return fused


class Refine(nn.Module):
    """Residual refinement: x + relu(conv(relu(conv(x))))."""

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(*two_convolutions(width, width, width, bias=False), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        """Return the refined x, of the same shape."""
        return x + self.body(x)


class Head(nn.Sequential):
    """Two-class logits (B, 2, H, W), background first, from decoder features."""

    def __init__(self, width: int):
        conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        dropout = nn.Dropout2d(HEAD_DROPOUT)
        classify = nn.Conv2d(width, 2, 1)
        super().__init__(OrderedDict(conv=conv, relu=nn.ReLU(), dropout=dropout, classify=classify))


def default_scales(grid: int) -> list[int]:
    """Return z_i = ceil(h / 2^i), i = 0..3, the default grid sizes of the decoder."""
    return [-(-grid // 2**i) for i in range(4)]


class FeatureEnrichment(nn.Module):
    """The feature enrichment module (PFENet), also Sym-Net's decoder: features, a prototype and maps at several scales.

    The parts have PFENet's names for them: ``enter`` is its inter-source enrichment; ``descend`` and ``refine`` are the
    inter-scale interaction, in which a finer scale tells the next coarser one what it found; ``merge`` and
    ``refine_merged`` are the information concentration. An auxiliary head supervises each scale. ``scales`` are the
    sides of the grids, the finest first; ``map_channels`` are those of all maps together.
    """

    def __init__(self, width: int, map_channels: int, scales: list[int]):
        super().__init__()
        self.scales = list(scales)
        self.enter = nn.ModuleList(pointwise(2 * width + map_channels, width) for _ in scales)
        self.descend = nn.ModuleList(pointwise(2 * width, width) for _ in scales[1:])
        self.refine = nn.ModuleList(Refine(width) for _ in scales)
        self.auxiliary = nn.ModuleList(Head(width) for _ in scales)
        self.merge = pointwise(len(scales) * width, width)
        self.refine_merged = Refine(width)
        self.head = Head(width)

    def forward(self, query_bchw: Tensor, prototype_bc: Tensor, *maps_bnhw: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return meta logits (B, 2, h, w) and, in training, the auxiliary logits of each scale (B, 2, z, z)."""
        size = query_bchw.shape[-2:]
        merged: list[Tensor] = []
        auxiliary: list[Tensor] = []
        for i, scale in enumerate(self.scales):
            grid = (scale, scale)
            pooled = query_bchw if grid == tuple(size) else F.adaptive_avg_pool2d(query_bchw, grid)
            maps = [resize(m, grid) for m in maps_bnhw]
            enter = cast(nn.Sequential, self.enter[i])[0]
            x = F.relu(fuse(cast(Tensor, enter.weight), pooled, prototype_bc, *maps))
            if merged:
                finer = resize(merged[-1], grid)
                told = self.descend[i - 1](torch.cat([x, finer], dim=1))
                x = x + told
            x = self.refine[i](x)
            if self.training:
                auxiliary.append(self.auxiliary[i](x))
            merged.append(resize(x, size))
        x = self.refine_merged(self.merge(torch.cat(merged, dim=1)))
        return self.head(x), auxiliary


def two_convolutions(channels: int, middle: int, out: int, bias: bool = True) -> list[nn.Module]:
    """Return two 3x3 convolutions with a ReLU between them."""
    first = nn.Conv2d(channels, middle, kernel_size=3, padding=1, bias=bias)
    second = nn.Conv2d(middle, out, kernel_size=3, padding=1, bias=bias)
    return [first, nn.ReLU(inplace=True), second]
