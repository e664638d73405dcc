"""The score of each cluster (section 7): its likeness to the supports' object and to the cluster most like it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.common.ops import unit
from model.insid3.candidates import Candidates


@dataclass(frozen=True)
class ClusterScores:
    """Scores of M clusters for one class, (M,) float32 each.

    Attributes:
        seed_sim: cosine of the prototype to the cluster's mean debiased feature.
        cross: mean cosine of the cluster's patches to the prototype.
        intra: cosine of the cluster's mean plain feature to the seed's.
        fraction: share of candidates among the cluster's patches.
        score: cross * intra * fraction, where the seed's fraction counts as 1.
        seed: the cluster of largest ``seed_sim`` among those that hold a candidate.
    """

    seed_sim: Tensor
    cross: Tensor
    intra: Tensor
    fraction: Tensor
    score: Tensor
    seed: int


def score_clusters(clusters_n: Tensor, target_nc: Tensor, debiased_nc: Tensor, found: Candidates) -> ClusterScores:
    """Return the clusters' scores for a class with at least one candidate.

    Args:
        clusters_n: cluster of each patch, int64.
        target_nc, debiased_nc: unit features T and D(T).
        found: the candidates of the class.
    """
    fraction = _means(found.candidates[:, None].float(), clusters_n)[:, 0]
    cross = _means(found.sim_forward[:, None], clusters_n)[:, 0]
    seed_sim = unit(_means(debiased_nc, clusters_n), dim=1) @ found.prototype
    seed = int(seed_sim.masked_fill(fraction == 0, -torch.inf).argmax())
    plain = unit(_means(target_nc, clusters_n), dim=1)
    intra = plain @ plain[seed]
    counted = fraction.clone()
    counted[seed] = 1
    return ClusterScores(seed_sim, cross, intra, fraction, cross * intra * counted, seed)


def _means(x_nc: Tensor, clusters_n: Tensor) -> Tensor:
    """Return the mean of x over each cluster, (M, C)."""
    count = clusters_n.bincount()
    total = x_nc.new_zeros(len(count), x_nc.shape[1]).index_add_(0, clusters_n, x_nc)
    return total / count[:, None]
