"""Chosen positions: means over them, cosines to the most similar one, and the prior that these make."""

import torch
from torch import Tensor
from torch.nn import functional as F

from model.common.fixed_shapes import rows_inside, shapes_are_fixed
from model.common.ops import in_float32, min_max, resize

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


@torch.no_grad()
@in_float32
def greatest_cosine(query_bchw: Tensor, foreground_nc: Tensor, inside_bkhw: Tensor) -> Tensor:
    """Return the cosine of each query position to the most similar one of each support, (B, K, h, w) (PFENet).

    Positions outside the object count as zero vectors, as published, so the result is negative only where the object
    fills its support. ``foreground_nc`` are the support features at the positions of ``inside_bkhw`` (bool), as
    ``rows_inside`` gives them, on the supports' grid or on a part of it that holds all of the object.
    """
    shots, (channels, height, width) = inside_bkhw.shape[1], query_bchw.shape[1:]
    direction = F.normalize(foreground_nc, dim=1, eps=COSINE_EPS)
    outside, positions, best = direction.new_zeros(1, channels), height * width, []
    counts = positions if shapes_are_fixed() else inside_bkhw.flatten(2).sum(2).flatten().tolist()
    for i, own in enumerate(direction.split(counts)):
        support = own if len(own) == positions else torch.cat([own, outside])
        best.append((support @ query_bchw[i // shots].flatten(1)).amax(0))
    scaled = torch.stack(best).unflatten(0, (-1, shots))  # |q_i| times the cosine, (B, K, L)
    length = query_bchw.flatten(2).norm(dim=1, keepdim=True).clamp(min=COSINE_EPS)
    return (scaled / length).unflatten(2, (height, width))


@torch.no_grad()
@in_float32
def shot_prior(query_f4_bchw: Tensor, support_f4_bchw: Tensor, mask_b1ss: Tensor) -> Tensor:
    """Return the prior (PFENet's) by one shot in [0, 1], (B, h, w); 0 everywhere for an empty mask.

    It is the similarity of each query position to the most similar one of the object; positions outside the mask count
    as zeros. A mask value between 0 and 1 does not change a cosine.
    """
    inside = resize(mask_b1ss, support_f4_bchw.shape[-2:]) > 0  # (B, 1, h, w)
    foreground = rows_inside(support_f4_bchw.permute(0, 2, 3, 1).flatten(0, 2), inside.flatten())
    similarity = greatest_cosine(query_f4_bchw, foreground, inside)[:, 0]
    return min_max(similarity.flatten(1), RANGE_EPS).view_as(similarity)
