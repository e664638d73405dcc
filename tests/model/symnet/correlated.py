"""The correlation of one feature map, as a network passes it: supports one by one, then the queries."""

from __future__ import annotations

from torch import Tensor

from model.symnet.hyper_correlation import CorrelationHead, Correlations

ANY_STAGE = 0


def correlated(head: CorrelationHead, query_bchw: Tensor, support_nchw: Tensor, mask_bk1ss: Tensor) -> Tensor:
    """Return the kept part of the correlation of B queries with their B * K supports."""
    correlations = Correlations(head, mask_bk1ss)
    for first, support_1chw in enumerate(support_nchw.split(1)):
        correlations.support(ANY_STAGE, first, support_1chw)
    correlations.query(ANY_STAGE, 0, query_bchw)
    return correlations.take()[ANY_STAGE][0]
