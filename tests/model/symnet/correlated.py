"""The correlation of one feature map, as a network passes it: supports one by one, then the queries."""

from __future__ import annotations

from torch import Tensor

from model.symnet.hyper_correlation import CorrelationHead, Correlations

ANY_STAGE = 0


def correlated(head: CorrelationHead, query_bchw: Tensor, support_nchw: Tensor, mask_bk1ss: Tensor) -> Tensor:
    """Return the kept part of the correlation of B queries with their B * K supports."""
    correlations = Correlations(head)
    for k, mask_b1ss in enumerate(mask_bk1ss.unbind(1)):
        give = correlations.shot(mask_b1ss)
        for b, support_1chw in enumerate(support_nchw[k :: mask_bk1ss.shape[1]].split(1)):
            give(ANY_STAGE, b, support_1chw)
    correlations.query(ANY_STAGE, 0, query_bchw)
    return correlations.take()[ANY_STAGE][0]
