"""The fusion of a feature map with a prototype and a one-channel map (BAM, SCCAN)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from model.common.projection import WIDTH


class Fusion(nn.Module):
    """The convolution W [feature; prototype; map]; the prototype, equal at all positions, is multiplied once."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2 * WIDTH + 1, WIDTH, 1, bias=False)

    def forward(self, feature_bchw: Tensor, prototype_bc: Tensor, map_b1hw: Tensor) -> Tensor:
        """Return the fused map (B, C, H, W)."""
        of_feature, of_prototype, of_map = self.conv.weight.split([WIDTH, WIDTH, 1], dim=1)
        fused = F.conv2d(feature_bchw, of_feature) + F.conv2d(prototype_bc[:, :, None, None], of_prototype)
        return fused + F.conv2d(map_b1hw, of_map)
