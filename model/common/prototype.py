"""Prototypes: the support's masked average, and the query's own foreground, ambiguous and background prototypes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.common.ops import masked_mean

SUPPORT_EPS = 5e-4
SURE = 0.7  # prior above which a query position is foreground
AMBIGUOUS = (0.4, 0.55)  # open interval of the prior in which a position is hard to tell
BACKGROUND = 0.4  # prior below which it is background
FALLBACK = 12  # positions taken by rank where no position qualifies


def support_prototype(feature_bchw: Tensor, mask_b1hw: Tensor) -> Tensor:
    """Return the masked average p of support features over their (soft) mask, (B, C)."""
    return masked_mean(feature_bchw, mask_b1hw, SUPPORT_EPS)


def choose(chosen_bl: Tensor, ranking_bl: Tensor, first_rank: int = 0) -> Tensor:
    """Return the weights (B, L), 1 or 0, of the chosen positions; where none is, of ``FALLBACK`` positions by rank.

    Args:
        chosen_bl: bool, what qualifies.
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


@dataclass
class QueryPrototypes:
    """Mean query features over the positions that the prior calls foreground, ambiguous and background, (B, C)."""

    foreground: Tensor
    ambiguous: Tensor
    background: Tensor


def query_prototypes(feature_bchw: Tensor, prior_b1hw: Tensor) -> QueryPrototypes:
    """Return the query's three prototypes; where a set is empty, the positions ranked highest, median or lowest.

    The choice of positions carries no gradient.
    """
    feature, prior = feature_bchw.flatten(2), prior_b1hw.detach().float().flatten(1)  # (B, C, L), (B, L)
    positions = prior.shape[1]
    take = min(FALLBACK, positions)
    ranking = prior.argsort(dim=1, descending=True, stable=True)
    middle = max(positions // 2 - take // 2, 0)

    def mean_of(chosen: Tensor, first_rank: int) -> Tensor:
        return mean_over(feature, choose(chosen, ranking, first_rank))

    return QueryPrototypes(
        foreground=mean_of(prior > SURE, 0),
        ambiguous=mean_of((prior > AMBIGUOUS[0]) & (prior < AMBIGUOUS[1]), middle),
        background=mean_of(prior < BACKGROUND, positions - take),
    )
