"""BAM's prior, which is PFENet's: each query position's similarity to the most similar position of the object."""

from __future__ import annotations

import torch
from torch import Tensor

from model.common.fixed_shapes import rows_inside
from model.common.greatest_cosine import greatest_cosine
from model.common.ops import in_float32, min_max, resize

EPS = 1e-7


@torch.no_grad()
@in_float32
def shot_prior(query_f4_bchw: Tensor, support_f4_bchw: Tensor, mask_b1ss: Tensor) -> Tensor:
    """Return the prior by one shot in [0, 1], (B, h, w); 0 everywhere for an empty mask.

    f4 is not negative, so the positions outside the mask, which count as zeros, never have the largest cosine; a mask
    value between 0 and 1 does not change a cosine.
    """
    inside = resize(mask_b1ss, support_f4_bchw.shape[-2:]) > 0  # (B, 1, h, w)
    foreground = rows_inside(support_f4_bchw.permute(0, 2, 3, 1).flatten(0, 2), inside.flatten())
    similarity = greatest_cosine(query_f4_bchw, foreground, inside)[:, 0]
    return min_max(similarity.flatten(1), EPS).view_as(similarity)
