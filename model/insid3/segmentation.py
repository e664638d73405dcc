"""From features to a mask: candidates of each class, clusters of the target, and the class of each cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from model.common.ops import resize_cells
from model.insid3.candidates import FORWARD_QUANTILE, Candidates, Reference, find_candidates
from model.insid3.clusters import clusters_of
from model.insid3.positional_basis import PositionalBasis, debiased
from model.insid3.scores import ClusterScores, score_clusters

INSIDE = 0.5  # a pixel belongs to the mask if the resized mask of patches is larger
EVIDENCE = ("largest sim", "0.9 quantile of sim", "candidates", "seed_sim", "largest score", "score of the seed")
PICTURES = ("sim_forward", "candidates", "cluster_score")  # maps that are drawn


@dataclass(frozen=True)
class Target:
    """A query: unit features T and debiased features D(T), (n, C) each, and its grid (h, w)."""

    plain: Tensor
    debiased: Tensor
    grid: tuple[int, int]

    @staticmethod
    def of(features_chw: Tensor, basis: PositionalBasis | None) -> Target:
        """Return a query with unit features (C, h, w)."""
        plain = features_chw.flatten(1).T.contiguous()
        return Target(plain, debiased(plain, basis), (features_chw.shape[1], features_chw.shape[2]))


@dataclass(frozen=True)
class Segmentation:
    """The clusters and classes of a target of n patches, for N classes.

    Attributes:
        candidates: of each class; None for a class without references.
        clusters: (n,) int64; None if no class has a candidate.
        scores: of each class; None for a class without candidates.
        classes: (h, w) int64, 0 background, else the class of each patch.
    """

    candidates: list[Candidates | None]
    clusters: Tensor | None
    scores: list[ClusterScores | None]
    classes: Tensor

    def evidence(self, index: int) -> Tensor:
        """Return numbers (E,) that tell whether a class, by index, is there: similarities, candidates, best cluster."""
        found, scores = self.candidates[index], self.scores[index]
        out = torch.zeros(len(EVIDENCE), device=self.classes.device)
        if found is not None:
            out[:3] = torch.stack(
                [found.sim_forward.max(), found.sim_forward.quantile(FORWARD_QUANTILE), found.candidates.float().mean()]
            )
        if scores is not None:
            out[3:] = torch.stack([scores.seed_sim[scores.seed], scores.score.max(), scores.score[scores.seed]])
        return out

    def pictures(self, index: int) -> dict[str, Tensor]:
        """Return maps (h, w) in 0..1 of a class, by index: cosine to its prototype, candidates, clusters' scores."""
        maps = dict.fromkeys(PICTURES, torch.zeros_like(self.classes, dtype=torch.float32))
        found, scores = self.candidates[index], self.scores[index]
        if found is not None:
            maps["sim_forward"] = found.sim_forward.clamp(0, 1).view_as(self.classes)
            maps["candidates"] = found.candidates.float().view_as(self.classes)
        if scores is not None and self.clusters is not None:
            maps["cluster_score"] = scores.score.clamp(0, 1)[self.clusters].view_as(self.classes)
        return maps


def segment(target: Target, references: Sequence[Sequence[Reference]], tau: float, merge: float) -> Segmentation:
    """Return the segmentation of a target, in float32.

    Each cluster goes to the class in which its score is largest, or to the background if none is above ``merge``. The
    paper has one class; several share the clusters and compete for them.

    Args:
        references: of each class 1..N, those whose mask is not empty.
        tau: cosine from which on clusters are merged.
        merge: score from which on a cluster belongs to a class.
    """
    found = [find_candidates(target.debiased, own) if own else None for own in references]
    present = [one if one is not None and bool(one.candidates.any()) else None for one in found]
    empty = torch.zeros(target.grid, dtype=torch.int64, device=target.plain.device)
    if not any(present):
        return Segmentation(found, None, [None] * len(found), empty)
    clusters = clusters_of(target.plain, tau)
    scores = [score_clusters(clusters, target.plain, target.debiased, p) if p else None for p in present]
    nothing = target.plain.new_full((int(clusters.max()) + 1,), merge)
    of_class = torch.stack([nothing, *(nothing if one is None else one.score for one in scores)])  # (N + 1, M)
    return Segmentation(found, clusters, scores, of_class.argmax(0)[clusters].unflatten(0, target.grid))


def on_canvas(mask_nhw: Tensor, size: Sequence[int]) -> Tensor:
    """Return masks (N, h, w) resized bilinearly to ``size``, (N, H, W) float32 in 0..1."""
    return resize_cells(mask_nhw.float()[None], size)[0]


def class_logits(classes_hw: Tensor, classes: int, size: Sequence[int]) -> Tensor:
    """Return logits (N + 1, H, W) of a map of classes: the share a_c of each on the canvas, minus 1/2.

    With one class they are [1/2 - a, a - 1/2], so that their argmax is the mask a > 1/2.
    """
    foreground = F.one_hot(classes_hw, classes + 1).movedim(-1, 0)[1:]
    share = on_canvas(foreground, size)
    return torch.cat([1 - share.sum(0, keepdim=True), share]) - INSIDE
