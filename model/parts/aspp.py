"""The decoder of one scale (BAM, SCCAN, HMNet): the fusion of feature, prototype and maps, and the ASPP."""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.parts.layers import WIDTH, Head, Refine, fuse

DILATIONS = (6, 12, 18)  # of ASPP's 3x3 convolutions
BRANCHES = len(DILATIONS) + 2  # with the global average and the 1x1 convolution


class Fusion(nn.Module):
    """The convolution W [feature; prototype; maps]; see ``fuse``."""

    def __init__(self, maps: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * WIDTH + maps, WIDTH, 1, bias=False)

    def forward(self, feature_bchw: Tensor, prototype_bc: Tensor, maps_bnhw: Tensor) -> Tensor:
        """Return the fused map (B, C, H, W)."""
        return fuse(self.conv.weight, feature_bchw, prototype_bc, maps_bnhw)


class ASPP(nn.Module):
    """Global average, 1x1 and dilated 3x3 convolutions of the same map."""

    def __init__(self, width: int):
        super().__init__()
        self.average = nn.Conv2d(width, width, 1)
        self.point = nn.Conv2d(width, width, 1)
        self.dilated = nn.ModuleList(nn.Conv2d(width, width, 3, padding=d, dilation=d) for d in DILATIONS)
        for conv in (self.average, self.point, *self.dilated):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")

    def forward(self, x_bchw: Tensor) -> tuple[Tensor, Tensor]:
        """Return the branch of the average, (B, C, 1, 1), and the others, (B, (``BRANCHES`` - 1) * C, H, W)."""
        positions = x_bchw.shape[2] * x_bchw.shape[3]
        mean = x_bchw.sum((2, 3), keepdim=True) / positions
        average = self.average(mean)
        maps = [conv(x_bchw) for conv in (self.point, *self.dilated)]
        return F.relu(average), F.relu(torch.cat(maps, dim=1))


class ASPPDecoder(nn.Sequential):
    """ASPP, a merge to the map's width, a residual refinement and the head: logits (B, 2, H, W)."""

    aspp: ASPP
    merge: nn.Conv2d
    relu: nn.ReLU
    refine: Refine
    head: Head

    def __init__(self, width: int):
        aspp, merge = ASPP(width), nn.Conv2d(BRANCHES * width, width, 1, bias=False)
        parts = OrderedDict(aspp=aspp, merge=merge, relu=nn.ReLU(), refine=Refine(width), head=Head(width))
        super().__init__(parts)

    def forward(self, x_bchw: Tensor) -> Tensor:
        """Return the logits of a map; the average, equal at all positions, is merged once."""
        average, maps = self.aspp(x_bchw)
        of_average, of_maps = self.merge.weight.split([average.shape[1], maps.shape[1]], dim=1)
        merged = F.conv2d(maps, of_maps) + F.conv2d(average, of_average)
        return self.head(self.refine(self.relu(merged)))
