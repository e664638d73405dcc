"""Self-support refinement: what the first prediction is sure of speaks for the query in a second look (after SSP).

The prior of the first look comes from a high-level map and is coarse. The meta output is better, so one self-support
step (SSP, sections 4 to 6 of its method) is made from it: prototypes of the query's own sure positions, blended with
the support's, and their cosines to every position are the prior of a second pass through the same decoder,

    P' = softmax(10 cos(F_q, [0.3 SSBP + 0.7 ASBP, (p_s + SSFP) / 2]))_1.

Cost: the step, and the decoder once more; no parameter. Not part of the published method.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.common.prototype import support_prototype
from model.common.self_support import FOREGROUND, SelfSupport, Similarity, with_own


class Refinement(nn.Module):
    """From meta logits to the prior of the second look."""

    def __init__(self):
        super().__init__()
        self.self_support, self.similarity = SelfSupport(), Similarity()

    @torch.no_grad()
    def forward(
        self, meta_b2hw: Tensor, query: Tensor, support: Tensor, mask_n1hw: Tensor, weight_bk: Tensor
    ) -> Tensor:
        """Return the refined prior (B, 1, h, w), float32 in 0..1, without gradient.

        Args:
            meta_b2hw: logits of the first look on the query's grid.
            query: frozen query features (B, C, h, w).
            support: frozen features of the B * K supports, (B * K, C, h, w).
            mask_n1hw: the supports' masks on that grid, (B * K, 1, h, w).
            weight_bk: of the shots.
        """
        each = support_prototype(support.float(), mask_n1hw).unflatten(0, weight_bk.shape)  # (B, K, C)
        prototype = (each * weight_bk.unsqueeze(2)).sum(1)
        own = self.self_support(query, meta_b2hw)
        foreground, background = with_own(prototype, own)
        return self.similarity(query, foreground, background).softmax(1)[:, FOREGROUND:]
