"""The feature enrichment module (PFENet), also Sym-Net's decoder: features, a prototype and maps at several scales."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.common.layers import Head, Refine, pointwise
from model.common.ops import resize


def default_scales(grid: int) -> list[int]:
    """Return z_i = ceil(h / 2^i), i = 0..3, the default grid sizes of the decoder."""
    return [-(-grid // 2**i) for i in range(4)]


class FeatureEnrichment(nn.Module):
    """Merge query features, a prototype and maps at several scales, pass them on, and concentrate them.

    The parts have PFENet's names for them: ``enter`` is its inter-source enrichment; ``descend`` and ``refine`` are the
    inter-scale interaction, in which a finer scale tells the next coarser one what it found; ``merge`` and
    ``refine_merged`` are the information concentration. An auxiliary head supervises each scale.

    Args:
        width: channels of features and prototype.
        map_channels: channels of all maps together.
        scales: sides of the grids, the finest first.
    """

    def __init__(self, width: int, map_channels: int, scales: list[int]):
        super().__init__()
        self.scales = list(scales)
        inputs = 2 * width + map_channels
        self.enter = nn.ModuleList(pointwise(inputs, width) for _ in scales)
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
            spread = prototype_bc[:, :, None, None].expand(-1, -1, *grid)
            inputs = [F.adaptive_avg_pool2d(query_bchw, grid), spread, *(resize(m, grid) for m in maps_bnhw)]
            x = self.enter[i](torch.cat(inputs, dim=1))
            if merged:
                x = x + self.descend[i - 1](torch.cat([x, resize(merged[-1], grid)], dim=1))
            x = self.refine[i](x)
            if self.training:
                auxiliary.append(self.auxiliary[i](x))
            merged.append(resize(x, size))
        x = self.refine_merged(self.merge(torch.cat(merged, dim=1)))
        return self.head(x), auxiliary
