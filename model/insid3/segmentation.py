"""INSID3's steps, in the paper's order: positions removed (sections 2, 3), candidates (4, 5), clusters (6), scores (7).

A transformer's features hold the position of a patch beside its content: patches at equal positions of two images
resemble each other. A black image has no content, so the directions in which its features vary are those of position.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from model.common.ops import on_host, resize_cells, sent
from model.common.training_free import mask_on_grid
from model.mismatch import Mismatch

FORWARD_QUANTILE = 0.9  # of cosines: where no patch resembles the prototype, those above this quantile count
BLOCK_ELEMENTS = 2**22  # of the cosines between two images that exist at a time, 16 MiB
MAX_PATCHES = 10_000  # whose pairs take 400 MB twice
BLOCK_ROWS = 256  # of the matrix of distances that exist at a time
INSIDE = 0.5  # a pixel belongs to the mask if the resized mask of patches is larger


class PositionalBasis(NamedTuple):
    """The leading directions of position: ``vectors`` U_r (C, r), ``singular_values`` (r,), descending; float32."""

    vectors: Tensor
    singular_values: Tensor

    def removed(self, features_nc: Tensor) -> Tensor:
        """Return D(X) = unit(X - U_r U_r^T X) of unit features (n, C)."""
        return F.normalize(features_nc - (features_nc @ self.vectors) @ self.vectors.T, dim=1)


def positional_basis(blank_chw: Tensor, components: int) -> PositionalBasis:
    """Return the first r left singular vectors of a black image's unit features, centred over positions.

    They are the eigenvectors of E E^T, found in float64 on the CPU; their signs have no influence. With r >= C or
    r > n - 1 all directions would be removed, and rounding would remain: Mismatch.
    """
    channels, patches = len(blank_chw), blank_chw[0].numel()
    if components > min(channels, patches) - 1:
        raise Mismatch(
            f"model.components = {components}: features of {channels} channels at {patches} patches have no more "
            f"directions; set at most {min(channels, patches) - 1}, or 0 to remove nothing"
        )
    centred = blank_chw.flatten(1).cpu().double()
    centred = centred - centred.mean(1, keepdim=True)  # E, (C, n)
    values, vectors = torch.linalg.eigh(centred @ centred.T)  # ascending
    leading = slice(-components, None)
    singular = values[leading].flip(0).clamp(min=0).sqrt()
    return PositionalBasis(sent(vectors[:, leading].flip(1).float(), blank_chw.device), singular.float())


class Target(NamedTuple):
    """A query: unit features T and debiased features D(T), (n, C) each, and its grid (h, w)."""

    plain: Tensor
    debiased: Tensor
    grid: tuple[int, int]

    @staticmethod
    def of(features_chw: Tensor, basis: PositionalBasis | None) -> "Target":
        """Return a query with unit features (C, h, w)."""
        plain = features_chw.flatten(1).T.contiguous()
        return Target(plain, basis.removed(plain) if basis else plain, (features_chw.shape[1], features_chw.shape[2]))


class Reference(NamedTuple):
    """A support: its debiased features D(F_k) (n, C), and the cells of its mask, bool (n,)."""

    features: Tensor
    mask: Tensor

    @staticmethod
    def of(features_chw: Tensor, mask_hw: Tensor, basis: PositionalBasis | None) -> "Reference":
        """Return a support with unit features (C, h, w) and a mask (H, W), which may be empty."""
        mask, features = mask_on_grid(mask_hw, features_chw.shape[1:]), features_chw.flatten(1).T
        return Reference(basis.removed(features) if basis else features, mask.flatten())


class Candidates(NamedTuple):
    """How the target's n patches match K references; those whose mask is empty do not count."""

    prototype: Tensor  # (C,), the mean over references of the mean over their masks, of length 1
    sim_forward: Tensor  # (n,), cosine of each patch to the prototype
    forward: Tensor  # bool (n,), patches that resemble the prototype
    best_ref: list[Tensor]  # K of (n,), int64: the most similar patch of each reference, row-major
    votes: Tensor  # (n,), int64: references whose most similar patch lies inside their mask
    candidates: Tensor  # bool (n,): forward, and voted for by at least half of the references
    facts: Tensor  # bool (2,): whether a reference has a mask, and whether there are candidates


def find_candidates(target_nc: Tensor, references: Sequence[Reference]) -> Candidates:
    """Return the candidates among the target's debiased features (n, C), from at least one reference."""
    cells = torch.stack([r.mask.sum() for r in references])  # (K,)
    shown = (cells > 0).sum()
    means = [r.mask.to(r.features) @ r.features / count.clamp(min=1) for r, count in zip(references, cells)]
    prototype = F.normalize(torch.stack(means).sum(0) / shown.clamp(min=1), dim=0)
    sim_forward = target_nc @ prototype
    forward = sim_forward > 0
    forward = torch.where(forward.any(), forward, sim_forward > sim_forward.quantile(FORWARD_QUANTILE))
    rows = [max(1, BLOCK_ELEMENTS // len(r.features)) for r in references]
    blocks = [target_nc.split(n) for n in rows]
    best_ref = [torch.cat([(x @ r.features.T).argmax(1) for x in own]) for r, own in zip(references, blocks)]
    votes = torch.stack([r.mask[best] for r, best in zip(references, best_ref)]).sum(0)
    candidates = forward & (votes >= (shown + 1) // 2) & (shown > 0)
    facts = torch.stack([shown > 0, candidates.any()])
    return Candidates(prototype, sim_forward, forward, best_ref, votes, candidates, facts)


def _cosines(target_nc: Tensor) -> Iterator[Tensor]:
    """Yield the cosines of blocks of patches to themselves and all later ones."""
    for start in range(0, len(target_nc), BLOCK_ROWS):
        yield (target_nc[start : start + BLOCK_ROWS] @ target_nc[start:].T).clamp(-1, 1)


class Clusters(NamedTuple):
    """The clusters of n patches: their number M, and the cluster of each patch, (n,) int64."""

    total: int
    of_patch: Tensor


def clusters_of(cosines: Iterable[Tensor], count: int, tau: float) -> Clusters:
    """Return the clusters of so many patches, numbered by first appearance, by average linkage.

    All merges at an average distance 1 - cosine below 1 - tau are carried out; ``cosines`` are those of ``_cosines``.
    """
    from scipy.cluster.hierarchy import fcluster, linkage  # other methods need no scipy

    if count == 1:
        return Clusters(1, torch.zeros(1, dtype=torch.int64))
    distances, filled = np.empty(count * (count - 1) // 2), 0  # of all pairs i < j, row by row, float64
    for block in cosines:
        for row, values in enumerate(block.numpy()):
            others = values[row + 1 :]
            distances[filled : filled + len(others)] = 1 - others.astype(np.float64)
            filled += len(others)
    labels = fcluster(linkage(distances, method="average"), np.nextafter(1 - tau, 0), criterion="distance")
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return Clusters(len(first), torch.from_numpy(first.argsort().argsort()[inverse]))


class ClusterScores(NamedTuple):
    """Scores of M clusters for one class, (M,) float32 each."""

    seed_sim: Tensor  # cosine of the prototype to the cluster's mean debiased feature
    cross: Tensor  # mean cosine of the cluster's patches to the prototype
    intra: Tensor  # cosine of the cluster's mean plain feature to the seed's
    fraction: Tensor  # share of candidates among the cluster's patches
    score: Tensor  # cross * intra * fraction, where the seed's fraction counts as 1
    seed: Tensor  # (1,) int64: the cluster of largest ``seed_sim`` among those that hold a candidate


def score_clusters(clusters: Clusters, target: Target, found: Candidates) -> ClusterScores:
    """Return the clusters' scores for a class with at least one candidate."""
    fraction = _means(found.candidates[:, None].float(), clusters)[:, 0]
    cross = _means(found.sim_forward[:, None], clusters)[:, 0]
    seed_sim = F.normalize(_means(target.debiased, clusters), dim=1) @ found.prototype
    seed = seed_sim.masked_fill(fraction == 0, -torch.inf).argmax(0, keepdim=True)
    plain = F.normalize(_means(target.plain, clusters), dim=1)
    intra = plain @ plain.index_select(0, seed)[0]
    return ClusterScores(seed_sim, cross, intra, fraction, cross * intra * fraction.index_fill(0, seed, 1), seed)


def _means(x_nc: Tensor, clusters: Clusters) -> Tensor:
    """Return the mean of x over each cluster, (M, C)."""
    of_patch = clusters.of_patch
    count = x_nc.new_zeros(clusters.total).index_add_(0, of_patch, torch.ones_like(x_nc[:, 0]))
    return x_nc.new_zeros(clusters.total, x_nc.shape[1]).index_add_(0, of_patch, x_nc) / count[:, None]


class Segmentation(NamedTuple):
    """The clusters and classes of a target of n patches, for N classes."""

    candidates: list[Candidates | None]  # of each class; None for a class without references
    clusters: Tensor | None  # (n,) int64; None if no class has a candidate
    scores: list[ClusterScores | None]  # of each class; None for a class without candidates
    classes: Tensor  # (h, w) int64, 0 background, else the class of each patch

    def evidence(self, index: int) -> Tensor:
        """Return numbers (6,) that tell whether a class, by index, is there.

        Cosines to its prototype, the largest and 0.9 quantile; share of candidates; seed's cosine, largest and seed's
        score.
        """
        found, scores, out = self.candidates[index], self.scores[index], self.classes.new_zeros(6, dtype=torch.float32)
        if found is not None:
            sim = found.sim_forward
            out[:3] = torch.stack([sim.max(), sim.quantile(FORWARD_QUANTILE), found.candidates.float().mean()])
        if scores is not None:
            seed_sim, score = (x.index_select(0, scores.seed)[0] for x in (scores.seed_sim, scores.score))
            out[3:] = torch.stack([seed_sim, scores.score.max(), score])
        return out

    def pictures(self, index: int) -> dict[str, Tensor]:
        """Return maps (h, w) in 0..1 of a class, by index: cosine to its prototype, candidates, clusters' scores."""
        found, scores, nothing = self.candidates[index], self.scores[index], torch.zeros_like(self.classes).float()
        flat = nothing.flatten()
        maps = {
            "sim_forward": flat if found is None else found.sim_forward.clamp(0, 1),
            "candidates": flat if found is None else found.candidates.float(),
            "cluster_score": flat if scores is None else scores.score.clamp(0, 1)[self.clusters],
        }
        return {name: x.view_as(nothing) for name, x in maps.items()}


def segment(
    targets: Sequence[Target], references: Sequence[Sequence[Sequence[Reference]]], tau: float, merge: float
) -> list[Segmentation]:
    """Return the segmentation of each target, in float32; a GPU is waited for once.

    References are of each target and class 1..N; those whose mask is empty do not count. Clusters are merged from the
    cosine ``tau`` on. Each goes to the class in which its score is largest, or to the background if none is above
    ``merge``. The paper has one class; several share the clusters and compete for them.
    """
    found = [[find_candidates(t.debiased, o) if o else None for o in own] for t, own in zip(targets, references)]
    facts, out = [[None if one is None else one.facts for one in own] for own in found], []
    cosines: list[Iterable[Tensor]] = [_cosines(target.plain) for target in targets]  # a CPU computes them later
    if not targets[0].plain.is_cpu:
        facts, cosines = on_host([facts, [list(own) for own in cosines]])
    for target, own, known, of_target in zip(targets, found, facts, cosines):
        shown, present = zip(*((False, False) if fact is None else fact.tolist() for fact in known))
        seen = [one if there else None for one, there in zip(own, shown)]
        if not any(present):
            empty = torch.zeros(target.grid, dtype=torch.int64, device=target.plain.device)
            out.append(Segmentation(seen, None, [None] * len(own), empty))
            continue
        clusters = clusters_of(of_target, len(target.plain), tau)
        clusters = clusters._replace(of_patch=sent(clusters.of_patch, target.plain.device))
        scores = [score_clusters(clusters, target, one) if one and there else None for one, there in zip(own, present)]
        nothing = target.plain.new_full((clusters.total,), merge)
        of_class = torch.stack([nothing, *(nothing if one is None else one.score for one in scores)])  # (N + 1, M)
        classes = of_class.argmax(0)[clusters.of_patch].unflatten(0, target.grid)
        out.append(Segmentation(seen, clusters.of_patch, scores, classes))
    return out


def class_logits(classes_hw: Tensor, classes: int, size: Sequence[int]) -> Tensor:
    """Return logits (N + 1, H, W) of a map of classes: the share a_c of each on the canvas, minus 1/2.

    With one class their argmax is the mask a > 1/2.
    """
    share = resize_cells(F.one_hot(classes_hw, classes + 1).movedim(-1, 0)[1:].float()[None], size)[0]
    return torch.cat([1 - share.sum(0, keepdim=True), share]) - INSIDE
