"""HSNet's hypercorrelation: the cosine of every query position with every support position, at many depths.

A level stacks the correlations of its intermediate features as channels: C_l (B, n, h, w, h, w), the
support's dimensions first. A position outside the support's mask correlates with nothing, so C_l is 0 there; only the
window around the object is computed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.common.ops import in_float32

NORM_EPS = 1e-5  # added to the norm of a position


@in_float32
def unit(feature_bchw: Tensor) -> Tensor:
    """Return a query's feature with every position normalised, in float32."""
    return feature_bchw / (torch.linalg.vector_norm(feature_bchw, dim=1, keepdim=True) + NORM_EPS)


@in_float32
def masked_unit(feature_bchw: Tensor, mask_b1hw: Tensor) -> Tensor:
    """Return a support's feature, masked, then normalised, in float32: cells in part on the object count in full."""
    return unit(feature_bchw * mask_b1hw)


class Correlation(nn.Module):
    """The clamped cosines of one intermediate feature."""

    @torch.no_grad()
    @in_float32
    def forward(self, query_bchw: Tensor, support_bcrr: Tensor) -> Tensor:
        """Return max(0, q . s) of normalised features, (B, 1, r, r', h, w) float32, without gradient."""
        cosine = torch.bmm(support_bcrr.flatten(2).transpose(1, 2), query_bchw.flatten(2))  # (B, r r', L)
        return cosine.relu_().view(len(cosine), 1, *support_bcrr.shape[-2:], *query_bchw.shape[-2:])
