"""A decoder of one scale (BAM, SCCAN): convolutions of several dilations (ASPP), merged, refined, classified."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.common.heads import Head, Refine

DILATIONS = (6, 12, 18)  # of the 3x3 convolutions
BRANCHES = len(DILATIONS) + 2  # with the global average and the 1x1 convolution


class ASPP(nn.Module):
    """Global average, 1x1 and dilated 3x3 convolutions of the same map."""

    def __init__(self, width: int):
        super().__init__()
        self.average = nn.Conv2d(width, width, 1)
        self.point = nn.Conv2d(width, width, 1)
        self.dilated = nn.ModuleList(nn.Conv2d(width, width, 3, padding=d, dilation=d) for d in DILATIONS)
        for conv in (self.average, self.point, *self.dilated):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")

    def forward(self, x_bchw: Tensor) -> Tensor:
        """Return the concatenation of the branches, (B, ``BRANCHES`` * C, H, W)."""
        average = self.average(x_bchw.mean((2, 3), keepdim=True)).expand(-1, -1, *x_bchw.shape[-2:])
        return F.relu(torch.cat([average, self.point(x_bchw), *(conv(x_bchw) for conv in self.dilated)], dim=1))


class ASPPDecoder(nn.Module):
    """ASPP, a merge to the map's width, a residual refinement and the head."""

    def __init__(self, width: int):
        super().__init__()
        self.aspp = ASPP(width)
        self.merge = nn.Conv2d(BRANCHES * width, width, 1, bias=False)
        self.refine = Refine(width)
        self.head = Head(width)

    def forward(self, x_bchw: Tensor) -> Tensor:
        """Return logits (B, 2, H, W), background first."""
        return self.head(self.refine(F.relu(self.merge(self.aspp(x_bchw)))))
