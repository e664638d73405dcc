"""Hyper-correlation: query-support similarity at every tap of the encoder, as a few maps of the query per stage.

The kind of head is a setting, ``correlation.kind``, and a module in ``KINDS``, of two parts. Called with (query's tap,
supports' tap, masks) for each tap as the encoder makes it, a head returns what it keeps of that tap, without gradient;
``squeeze`` turns stage -> what it kept of each tap into stage -> (B, ``out_counts[stage]``, h, w) and may learn.
``pooled`` is the published one; ``conv4d`` is that of ``model/symnet/extensions/conv4d.py``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.common.ops import resize
from model.symnet.extensions.conv4d import Conv4dCorrelation
from model.symnet.intermediate_correlation import intermediate_correlation

FUSION_CHANNELS = 16
OUT_CHANNELS = 48


class PooledCorrelation(nn.Module):
    """Squeeze the 4D correlation to one map per tap: its mean over the support positions inside the mask."""

    def __init__(self, intermediate_counts: dict[int, int]):
        super().__init__()
        self.out_counts = dict(intermediate_counts)

    def forward(self, query_bchw: Tensor, support_nchw: Tensor, mask_bk1hw: Tensor) -> Tensor:
        """Return the map of one tap, (B, h, w), float32; see ``intermediate_correlation``."""
        mean = intermediate_correlation(query_bchw, support_nchw, mask_bk1hw, lambda c, _: c.mean(1, keepdim=True))
        return mean[..., 0]

    def squeeze(self, taps: dict[int, list[Tensor]]) -> dict[int, Tensor]:
        """Return stage -> (B, n, h, w), the maps of its n taps."""
        return {stage: torch.stack(maps, dim=1) for stage, maps in taps.items()}


KINDS = {"pooled": PooledCorrelation, "conv4d": Conv4dCorrelation}


class CorrelationFusion(nn.Module):
    """Fuse the stages' correlation maps from the deepest to the shallowest into H, (B, 48, h, w)."""

    def __init__(self, counts: dict[int, int]):
        super().__init__()
        width = FUSION_CHANNELS
        self.enter = nn.ModuleDict({str(stage): nn.Conv2d(n, width, 1) for stage, n in counts.items()})
        self.top = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(1, width), nn.ReLU(inplace=True))
        self.bottom = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(1, width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, OUT_CHANNELS, 3, padding=1),
        )

    def forward(self, maps: dict[int, Tensor]) -> Tensor:
        """Return H on stage 3's grid (VGG's stage 2 has a finer one and is resized)."""
        c2, c3, c4 = (resize(maps[stage], maps[3].shape[-2:]) for stage in (2, 3, 4))
        top = self.top(self.enter["3"](c3) + self.enter["4"](c4))
        return self.bottom(top + self.enter["2"](c2))
