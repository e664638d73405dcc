"""Chosen positions: means over them, cosines to the most similar one, and the prior that these make."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from model.common.fixed_shapes import Objects
from model.common.ops import in_float32, min_max

FALLBACK = 12  # positions taken by rank where no position qualifies
COSINE_EPS = RANGE_EPS = 1e-7


def choose(chosen_bl: Tensor, ranking_bl: Tensor, first_rank: int = 0) -> Tensor:
    """Return weights (B, L): 1 at the chosen positions, or at ``FALLBACK`` positions by rank where none is chosen.

    ``ranking_bl`` are the positions from the highest rank down; the fallback begins at ``first_rank`` of them.
    """
    take = min(FALLBACK, ranking_bl.shape[1])
    chosen = chosen_bl.float()
    by_rank = torch.zeros_like(chosen).scatter(1, ranking_bl[:, first_rank : first_rank + take], 1.0)
    return torch.where(chosen_bl.any(1, keepdim=True), chosen, by_rank)


def mean_over(feature_bcl: Tensor, weight_bl: Tensor) -> Tensor:
    """Return the weighted mean of features over positions, (B, C)."""
    weight = weight_bl.to(feature_bcl.dtype)
    return torch.einsum("bcl,bl->bc", feature_bcl, weight) / weight.sum(1, keepdim=True)


def touched(mask_n1hw: Tensor) -> Tensor:
    """Return the positions (N, h, w) of a mask that see something of the object."""
    return mask_n1hw[:, 0] > 0


@torch.no_grad()
@in_float32
def greatest_cosine(query_bchw: Tensor, foreground: Sequence[Tensor]) -> Tensor:
    """Return the cosine of each query position to the most similar one of each support, (B, K, h, w) (PFENet).

    Positions outside the object count as zero vectors, as published, so the result is negative only where the object
    fills its support. ``foreground`` are the features (n, C) of the B * K supports at their objects' positions.
    """
    shots, (channels, height, width) = len(foreground) // len(query_bchw), query_bchw.shape[1:]
    outside, best = query_bchw.new_zeros(1, channels), []
    for i, own in enumerate(foreground):
        support = F.normalize(own.float(), dim=1, eps=COSINE_EPS)
        support = support if len(own) == height * width else torch.cat([support, outside])
        best.append((support @ query_bchw[i // shots].flatten(1)).amax(0))
    scaled = torch.stack(best).unflatten(0, (-1, shots))  # |q_i| times the cosine, (B, K, L)
    length = query_bchw.flatten(2).norm(dim=1, keepdim=True).clamp(min=COSINE_EPS)
    return (scaled / length).unflatten(2, (height, width))


@torch.no_grad()
@in_float32
def shot_prior(query_f4_bchw: Tensor, support_f4_bchw: Tensor, objects: Objects) -> Tensor:
    """Return the prior (PFENet's) by one shot in [0, 1], (B, h, w); 0 everywhere for an empty mask.

    It is the similarity of each query position to the most similar one of the object; positions outside the mask count
    as zeros. A mask value between 0 and 1 does not change a cosine. ``objects`` choose ``inside``, what they touch.
    """
    inside = objects.on(support_f4_bchw.shape[-2:]).chosen["inside"]
    similarity = greatest_cosine(query_f4_bchw, inside.rows(support_f4_bchw.flatten(2).transpose(1, 2)))[:, 0]
    return min_max(similarity.flatten(1), RANGE_EPS).view_as(similarity)
