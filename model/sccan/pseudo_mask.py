"""SCCAN's pseudo mask aggregation: the query's prior as an attention-weighted mean of a support's mask."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.common.ops import in_float32, min_max, resize

EPS = 1e-7
MAX_SCORES = 2**21  # attention scores held at a time


class PseudoMask(nn.Module):
    """Cosine attention of high-level features, with temperature 1, to all positions of a support, stretched to 0..1.

    The softmax is nearly uniform and the result close to the mean of the mask; the stretching makes it a prior. With a
    mask that is 1 everywhere, rounding errors are stretched, as published.
    """

    @torch.no_grad()
    @in_float32
    def forward(self, query_f4_bchw: Tensor, support_f4_bchw: Tensor, mask_b1gg: Tensor) -> Tensor:
        """Return the prior of one shot, (B, 1, G, G); 0 everywhere where the mask is empty.

        The query's features stay on their own grid, the support's are resized to the mask's.
        """
        size, grid = query_f4_bchw.shape[-2:], mask_b1gg.shape[-2:]
        query, support = query_f4_bchw.flatten(2).transpose(1, 2), resize(support_f4_bchw, grid).flatten(2)
        rough = _attended(query, support, mask_b1gg.flatten(2).transpose(1, 2))  # (B, L)
        return resize(min_max(rough, EPS).unflatten(1, size).unsqueeze(1), grid)


def _attended(query_blc: Tensor, key_bcm: Tensor, value_bm1: Tensor) -> Tensor:
    """Return softmax(cos(q, k)) v, (B, L), for some queries at a time, so that the whole matrix never exists."""
    lengths = torch.linalg.vector_norm(key_bcm, dim=1, keepdim=True)  # (B, 1, M)
    pieces = []
    for query in query_blc.split(max(MAX_SCORES // (len(query_blc) * key_bcm.shape[2]), 1), dim=1):
        cosine = torch.bmm(query, key_bcm)
        cosine /= torch.linalg.vector_norm(query, dim=2, keepdim=True) * lengths + EPS
        pieces.append(torch.bmm(cosine.softmax(2), value_bm1))
    return torch.cat(pieces, dim=1).squeeze(2)
