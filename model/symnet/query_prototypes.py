"""The query's own prototypes: means over the positions that the prior calls foreground, ambiguous or background."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from model.common.prototype import FALLBACK, choose, mean_over

FOREGROUND_ABOVE = 0.7  # prior above which a query position is foreground
AMBIGUOUS_BETWEEN = (0.4, 0.55)  # open interval of the prior in which a position is hard to tell
BACKGROUND_BELOW = 0.4  # prior below which a query position is background


@dataclass
class QueryPrototypes:
    """Mean query features over the foreground, the ambiguous ("hard") and the background positions, (B, C) each."""

    foreground: Tensor
    ambiguous: Tensor
    background: Tensor


def query_prototypes(feature_bchw: Tensor, prior_b1hw: Tensor) -> QueryPrototypes:
    """Return the query's three prototypes; an empty set falls back to the positions of highest, median or lowest prior.

    The choice of positions carries no gradient.
    """
    feature_bcl, prior_bl = feature_bchw.flatten(2), prior_b1hw.detach().float().flatten(1)
    positions = prior_bl.shape[1]
    take = min(FALLBACK, positions)
    ranking_bl = prior_bl.argsort(dim=1, descending=True, stable=True)
    middle = max(positions // 2 - take // 2, 0)

    def mean_of(chosen_bl: Tensor, first_rank: int) -> Tensor:
        return mean_over(feature_bcl, choose(chosen_bl, ranking_bl, first_rank))

    low, high = AMBIGUOUS_BETWEEN
    return QueryPrototypes(
        foreground=mean_of(prior_bl > FOREGROUND_ABOVE, 0),
        ambiguous=mean_of((prior_bl > low) & (prior_bl < high), middle),
        background=mean_of(prior_bl < BACKGROUND_BELOW, positions - take),
    )
