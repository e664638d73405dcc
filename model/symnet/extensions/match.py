"""A learned match: cosines to prototypes in a learned space, after one self-support step (SSP), added to the decoder.

The decoder starts from random values, and its first hundreds of steps only discover that similarity to the support
matters; fitting the base classes then makes it cautious on novel ones. Cosines to prototypes measure similarity from
the first step on and for any class, so here the decoder only learns a correction of them. With V a learned 1x1
convolution of the mid-level features [f3; f2],

    m_0 = 10 cos(V x_q, [b_s, p_s])                                      the supports' prototypes, background first
    m   = 10 cos(V x_q, [0.3 SSBP + 0.7 ASBP, (p_s + SSFP) / 2])         with prototypes of the query's confident areas
    meta = decoder(..., softmax(m)_1) + alpha m

and both m_0 and m are trained with the query's mask. Cost: V on every image, and the self-support step;
(C_2 + C_3) 256 + 1 parameters, and 1024 for one more input map of the decoder.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model.common.layers import WIDTH
from model.common.ops import in_float32, masked_mean, mean_over_shots
from model.common.self_support import SelfSupport, Similarity, with_own


class Match(nn.Module):
    """Two-class logits of a query by cosines in a learned space."""

    def __init__(self, channels: int):
        super().__init__()
        self.project = nn.Conv2d(channels, WIDTH, 1, bias=False)
        self.share = nn.Parameter(torch.ones(()))  # alpha
        self.self_support, self.similarity = SelfSupport(), Similarity()

    def prototypes(self, support_bchw: Tensor, masks_b1hw: Sequence[Tensor]) -> Tensor:
        """Return the prototypes of one shot, (B, 2, C) float32."""
        support = self.project(support_bchw)
        return torch.stack([in_float32(masked_mean)(support, mask) for mask in masks_b1hw], dim=1)

    def forward(self, query_bchw: Tensor, prototypes_bk2c: Tensor, weight_bk: Tensor) -> dict[str, Tensor]:
        """Return m_0 as ``guess`` and m as ``match``, logits (B, 2, h, w) float32, background first."""
        return self._compare(self.project(query_bchw), prototypes_bk2c, weight_bk)

    @in_float32
    def _compare(self, query: Tensor, prototypes_bk2c: Tensor, weight_bk: Tensor) -> dict[str, Tensor]:
        foreground, background = (mean_over_shots(x, weight_bk) for x in prototypes_bk2c.unbind(2))  # p_s, b_s
        guess = self.similarity(query, foreground, background)
        own = self.self_support(query, guess)
        return {"guess": guess, "match": self.similarity(query, *with_own(foreground, own))}
