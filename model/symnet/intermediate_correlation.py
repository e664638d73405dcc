"""The 4D correlation of one intermediate feature map, reduced over the support's positions at once.

Of a support only the positions inside the object are kept, so that the supports can be encoded one by one before the
query: m of L = h w positions with C channels, 4 m C bytes.

For query position i and a support position j inside the object, c_ij = max(0, <q_i, s_j> / (|q_i| |s_j|)). The calling
hyper-correlation head chooses the reduction over the support's two dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from model.common.fixed_shapes import rows_inside
from model.common.ops import in_float32, inner_products, resize

NORM_EPS = 1e-5
INSIDE = 1 - 1e-6  # resized mask value from which a support position lies entirely inside the object

# (c_ij (L, m), bool (L,) with the m positions inside) -> (L, cells); with fixed shapes m = L and c_ij is 0 outside
Reduce = Callable[[Tensor, Tensor], Tensor]


class ObjectMap(NamedTuple):
    """A support's intermediate feature at the positions inside its object."""

    direction_mc: Tensor  # s_j / |s_j|, float32
    inside_l: Tensor  # bool, the m positions


@torch.no_grad()
@in_float32
def object_maps(support_nchw: Tensor, mask_n1ss: Tensor) -> list[ObjectMap]:
    """Return what the correlation reads of an intermediate feature of N supports."""
    inside_nl = resize(mask_n1ss, support_nchw.shape[-2:]).flatten(1) >= INSIDE
    out = []
    for support_lc, inside_l in zip(support_nchw.flatten(2).transpose(1, 2), inside_nl):
        chosen_mc = rows_inside(support_lc, inside_l)
        out.append(ObjectMap(chosen_mc / (chosen_mc.norm(dim=1, keepdim=True) + NORM_EPS), inside_l))
    return out


@torch.no_grad()
@in_float32
def intermediate_correlation(query_1chw: Tensor, shots: Sequence[ObjectMap], reduce: Reduce, cells: int = 1) -> Tensor:
    """Return each shot's correlation, reduced by ``reduce`` and averaged over shots, (1, h, w, cells) float32.

    A shot with no position inside its mask counts as zeros. Clamp and (linear) reduction commute with the positive
    length |q_i|, so the division by it comes last. Only one shot's matrix (L, m) exists at a time.
    """
    length_l1 = query_1chw[0].flatten(1).norm(dim=0).unsqueeze(1) + NORM_EPS
    out = torch.zeros(len(length_l1), cells, device=length_l1.device)
    for direction_mc, inside_l in shots:
        if len(direction_mc):
            correlation_mhw = inner_products(query_1chw, direction_mc)[0].clamp_(min=0)
            out += reduce(correlation_mhw.flatten(1).T, inside_l) / len(shots)
    return (out / length_l1).unflatten(0, query_1chw.shape[-2:]).unsqueeze(0)
