"""The 4D correlation of one intermediate feature map, reduced over the support's positions at once.

For query position i and a support position j inside the object, c_ij = max(0, <q_i, s_j> / (|q_i| |s_j|)). The calling
hyper-correlation head chooses the reduction over the support's two dimensions.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from model.common.fixed_shapes import rows_inside
from model.common.ops import in_float32, inner_products, resize

NORM_EPS = 1e-5
INSIDE = 1 - 1e-6  # resized mask value from which a support position lies entirely inside the object

# (c_ij (L, m), bool (L,) with the m positions inside) -> (L, cells); with fixed shapes m = L and c_ij is 0 outside
Reduce = Callable[[Tensor, Tensor], Tensor]


@torch.no_grad()
@in_float32
def intermediate_correlation(
    query_bchw: Tensor, support_nchw: Tensor, mask_bk1hw: Tensor, reduce: Reduce, cells: int = 1
) -> Tensor:
    """Return each shot's correlation, reduced by ``reduce`` and averaged over shots, (B, h, w, cells) float32.

    The N = B * K support maps belong to the masks in order; a shot with no position inside its mask counts as zeros.
    Clamp and (linear) reduction commute with the positive length |q_i|, so the division by it comes last. Only one
    shot's matrix (L, m) exists at a time, with L = h w and m <= L.
    """
    (batch, shots), size = mask_bk1hw.shape[:2], query_bchw.shape[-2:]
    inside_bkl = resize(mask_bk1hw.flatten(0, 1), size).view(batch, shots, -1) >= INSIDE
    support = support_nchw.flatten(2).transpose(1, 2)  # (B * K, L, C)
    length = query_bchw.flatten(2).norm(dim=1).unsqueeze(2) + NORM_EPS  # (B, L, 1)
    out = torch.zeros(*length.shape[:2], cells, device=length.device)
    for b in range(batch):
        for k in range(shots):
            chosen = rows_inside(support[b * shots + k], inside_bkl[b, k])  # (m, C)
            if len(chosen):
                direction = chosen / (chosen.norm(dim=1, keepdim=True) + NORM_EPS)
                correlation_mhw = inner_products(query_bchw[b : b + 1], direction)[0].clamp_(min=0)
                out[b] += reduce(correlation_mhw.flatten(1).T, inside_bkl[b, k]) / shots
    return (out / length).unflatten(1, size)
