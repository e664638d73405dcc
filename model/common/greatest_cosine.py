"""The cosine of every query position to its most similar support position (PFENet, BAM, HDMNet)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from model.common.fixed_shapes import shapes_are_fixed
from model.common.ops import in_float32

EPS = 1e-7


@torch.no_grad()
@in_float32
def greatest_cosine(query_bchw: Tensor, foreground_nc: Tensor, inside_bkhw: Tensor) -> Tensor:
    """Return the largest cosine of each query position to the foreground of each support, (B, K, h, w).

    Positions outside the object count as zero vectors, as published, so the result is negative only where the object
    fills its support.

    Args:
        query_bchw: query features.
        foreground_nc: support features at the positions of ``inside_bkhw``, as ``rows_inside`` gives them.
        inside_bkhw: bool, the supports' objects on their grid, or on a part of it that holds all of the object.
    """
    shots, (channels, height, width) = inside_bkhw.shape[1], query_bchw.shape[1:]
    direction = F.normalize(foreground_nc, dim=1, eps=EPS)
    outside = direction.new_zeros(1, channels)
    best = []
    positions = height * width
    counts = positions if shapes_are_fixed() else inside_bkhw.flatten(2).sum(2).flatten().tolist()
    for i, own in enumerate(direction.split(counts)):
        support = own if len(own) == positions else torch.cat([own, outside])
        best.append((support @ query_bchw[i // shots].flatten(1)).amax(0))
    scaled = torch.stack(best).unflatten(0, (-1, shots))  # |q_i| times the cosine, (B, K, L)
    length = query_bchw.flatten(2).norm(dim=1, keepdim=True).clamp(min=EPS)
    return (scaled / length).unflatten(2, (height, width))
