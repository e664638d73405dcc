"""Prototypes: the masked average of a support, and means over chosen positions with a fallback by rank."""

from __future__ import annotations

import torch
from torch import Tensor

from model.common.ops import masked_mean

SUPPORT_EPS = 5e-4  # added to the sum of a mask
FALLBACK = 12  # positions taken by rank where no position qualifies


def support_prototype(feature_bchw: Tensor, mask_b1hw: Tensor) -> Tensor:
    """Return the masked average p of support features over their (soft) mask, (B, C)."""
    return masked_mean(feature_bchw, mask_b1hw, SUPPORT_EPS)


def choose(chosen_bl: Tensor, ranking_bl: Tensor, first_rank: int = 0) -> Tensor:
    """Return weights (B, L): 1 at the chosen positions, or at ``FALLBACK`` positions by rank where none is chosen.

    Args:
        chosen_bl: bool, the positions that qualify.
        ranking_bl: positions from the highest rank down, as ``argsort`` gives them.
        first_rank: where in the ranking the fallback begins.
    """
    take = min(FALLBACK, ranking_bl.shape[1])
    chosen = chosen_bl.float()
    by_rank = torch.zeros_like(chosen).scatter(1, ranking_bl[:, first_rank : first_rank + take], 1.0)
    return torch.where(chosen_bl.any(1, keepdim=True), chosen, by_rank)


def mean_over(feature_bcl: Tensor, weight_bl: Tensor) -> Tensor:
    """Return the weighted mean of features over positions, (B, C)."""
    weight = weight_bl.to(feature_bcl.dtype)
    return torch.einsum("bcl,bl->bc", feature_bcl, weight) / weight.sum(1, keepdim=True)
