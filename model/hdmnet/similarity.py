"""HDMNet's similarity: the cosine of every query position to its most similar support position (PFENet's prior)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from model.common.ops import in_float32

EPS = 1e-7


@torch.no_grad()
@in_float32
def greatest_cosine(query_bchw: Tensor, foreground_nc: Tensor, inside_bkhw: Tensor) -> Tensor:
    """Return the largest cosine of each query position to a support's foreground, mean over shots, (B, h, w).

    Positions outside the object count as zero vectors, as published, so the result is negative only where the object
    fills its support.

    Args:
        query_bchw: query features.
        foreground_nc: support features at the positions of ``inside_bkhw.nonzero()``.
        inside_bkhw: bool, the supports' objects on the grid.
    """
    (batch, shots), (channels, height, width) = inside_bkhw.shape[:2], query_bchw.shape[1:]
    direction = F.normalize(foreground_nc, dim=1, eps=EPS)
    outside = direction.new_zeros(1, channels)
    best = []
    for i, own in enumerate(direction.split(inside_bkhw.flatten(2).sum(2).flatten().tolist())):
        support = own if len(own) == height * width else torch.cat([own, outside])
        best.append((support @ query_bchw[i // shots].flatten(1)).amax(0))
    mean = torch.stack(best).unflatten(0, (batch, shots)).mean(1)  # (B, L) of |q_i| times the cosine
    return (mean / query_bchw.flatten(2).norm(dim=1).clamp(min=EPS)).unflatten(1, (height, width))
