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

from model.common.ops import resize_cells, to_cpu, to_device
from model.common.training_free import mask_on_grid
from model.mismatch import ModelMismatch

FORWARD_QUANTILE = 0.9  # of cosines: where no patch resembles the prototype, those above this quantile count
BLOCK_ELEMENTS = 2**22  # of the cosines between two images that exist at a time, 16 MiB
MAX_PATCHES = 10_000  # whose pairs take 400 MB twice
BLOCK_ROWS = 256  # of the matrix of distances that exist at a time
INSIDE = 0.5  # a pixel belongs to the mask if the resized mask of patches is larger


def positional_basis(blank_chw: Tensor, components: int) -> Tensor:
    """Return U_r (C, r) float32, the first left singular vectors of a black image's unit features about their mean.

    They are the eigenvectors of E E^T, found in float64 on the CPU; their signs have no influence. With r >= C or
    r > n - 1 all directions would be removed, and rounding would remain: ModelMismatch.
    """
    channels, patches = len(blank_chw), blank_chw[0].numel()
    if components > (most := min(channels, patches) - 1):
        reason = f"features of {channels} channels at {patches} patches have no more directions"
        raise ModelMismatch(f"model.components = {components}: {reason}; set at most {most}, or 0 to remove nothing")
    centred = blank_chw.flatten(1).cpu().double()
    centred = centred - centred.mean(1, keepdim=True)  # E, (C, n)
    vectors = torch.linalg.eigh(centred @ centred.T).eigenvectors[:, -components:]  # by ascending eigenvalues
    return to_device(vectors.float(), blank_chw.device)


class Patches(NamedTuple):
    """The n patches of an image: unit features X, and D(X) = unit(X - U_r U_r^T X), (n, C) each; their grid (h, w)."""

    plain: Tensor
    debiased: Tensor
    grid: torch.Size

    @staticmethod
    def of(features_chw: Tensor, basis_cr: Tensor | None) -> "Patches":
        """Return the patches of an image with unit features (C, h, w)."""
        x = features_chw.flatten(1).T.contiguous()
        debiased = x if basis_cr is None else F.normalize(x - (x @ basis_cr) @ basis_cr.T, dim=1)
        return Patches(x, debiased, features_chw.shape[1:])


Reference = tuple[Patches, Tensor]  # a support, and its mask of pixels, bool (H, W)


class Candidates(NamedTuple):
    """How the target's n patches match K references; those whose mask is empty do not count."""

    prototype: Tensor  # (C,), the mean over references of the mean over their masks, of length 1
    sim_forward: Tensor  # (n,), cosine of each patch to the prototype
    candidates: Tensor  # bool (n,): similar to the prototype, and to patches in the masks of half of the references
    facts: Tensor  # bool (2,): whether a reference has a mask, and whether there are candidates


def find_candidates(target_nc: Tensor, references: Sequence[Reference]) -> Candidates:
    """Return the candidates among the target's debiased features (n, C), from at least one reference."""
    features = [patches.debiased for patches, _ in references]
    masks = [mask_on_grid(mask, patches.grid).flatten() for patches, mask in references]
    cells = torch.stack([mask.sum() for mask in masks])  # (K,)
    shown = (cells > 0).sum()
    means = [mask.to(x) @ x / count.clamp(min=1) for mask, x, count in zip(masks, features, cells)]
    prototype = F.normalize(torch.stack(means).sum(0) / shown.clamp(min=1), dim=0)
    sim_forward = target_nc @ prototype
    forward = sim_forward > 0
    forward = torch.where(forward.any(), forward, sim_forward > sim_forward.quantile(FORWARD_QUANTILE))
    votes = torch.zeros_like(forward, dtype=torch.int64)  # references whose most similar patch lies inside their mask
    for mask, x in zip(masks, features):
        blocks = target_nc.split(max(1, BLOCK_ELEMENTS // len(x)))
        votes += mask[torch.cat([(block @ x.T).argmax(1) for block in blocks])]
    candidates = forward & (votes >= (shown + 1) // 2) & (shown > 0)
    return Candidates(prototype, sim_forward, candidates, torch.stack([shown > 0, candidates.any()]))


def _cosines(target_nc: Tensor) -> Iterator[Tensor]:
    """Yield the cosines of blocks of patches to themselves and all later ones."""
    for start in range(0, len(target_nc), BLOCK_ROWS):
        yield (target_nc[start : start + BLOCK_ROWS] @ target_nc[start:].T).clamp(-1, 1)


def clusters_of(cosines: Iterable[Tensor], tau: float) -> tuple[Tensor, Tensor]:
    """Return the cluster of each of n patches, (n,) int64, and the sizes of all, (M,) float32, by average linkage.

    All merges at an average distance 1 - cosine below 1 - tau are carried out; clusters are numbered by first
    appearance. ``cosines`` are those of ``_cosines``.
    """
    from scipy.cluster.hierarchy import fcluster, linkage  # other methods need no scipy

    above = (block[torch.ones_like(block, dtype=torch.bool).triu(1)] for block in cosines)
    distances, labels = 1 - torch.cat(list(above)).double(), np.ones(1)  # of all pairs i < j, row by row
    if len(distances):
        labels = fcluster(linkage(distances.numpy(), method="average"), np.nextafter(1 - tau, 0), criterion="distance")
    _, first, inverse, sizes = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    return torch.from_numpy(first.argsort().argsort()[inverse]), torch.from_numpy(sizes[first.argsort()]).float()


class ClusterScores(NamedTuple):
    """Scores of M clusters for one class."""

    seed_sim: Tensor  # (M,) cosine of the prototype to the cluster's mean debiased feature
    score: Tensor  # (M,) see ``score_clusters``
    seed: Tensor  # (1,) int64: the cluster of largest ``seed_sim`` among those that hold a candidate


def score_clusters(of_patch: Tensor, sizes: Tensor, target: Patches, found: Candidates) -> ClusterScores:
    """Return the clusters' scores for a class with at least one candidate.

    A score is the product of three: the mean cosine of the cluster's patches to the prototype; the cosine of its mean
    plain feature to the seed's; and the share of candidates among its patches, which counts as 1 for the seed.
    """

    def mean(x_nc: Tensor) -> Tensor:  # over each cluster, (M, C)
        return x_nc.new_zeros(len(sizes), x_nc.shape[1]).index_add_(0, of_patch, x_nc) / sizes[:, None]

    cross, fraction = mean(torch.stack([found.sim_forward, found.candidates.float()], dim=1)).unbind(1)
    seed_sim = F.normalize(mean(target.debiased), dim=1) @ found.prototype
    seed = seed_sim.masked_fill(fraction == 0, -torch.inf).argmax(0, keepdim=True)
    plain = F.normalize(mean(target.plain), dim=1)
    intra = plain @ plain.index_select(0, seed)[0]
    return ClusterScores(seed_sim, cross * intra * fraction.index_fill(0, seed, 1), seed)


class Segmentation(NamedTuple):
    """The clusters and classes of a target of n patches, for N classes."""

    candidates: list[Candidates | None]  # of each class; None for a class without references
    clusters: Tensor | None  # (n,) int64; None if no class has a candidate
    scores: list[ClusterScores | None]  # of each class; None for a class without candidates
    classes: Tensor  # (h, w) int64, 0 background, else the class of each patch

    def presence_features(self, index: int) -> Tensor:
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
        maps = dict.fromkeys(("sim_forward", "candidates", "cluster_score"), nothing)
        if found is not None:
            maps |= {"sim_forward": found.sim_forward.clamp(0, 1), "candidates": found.candidates.float()}
        if scores is not None:
            maps["cluster_score"] = scores.score.clamp(0, 1)[self.clusters]
        return {name: x.view_as(nothing) for name, x in maps.items()}


def segment(
    targets: Sequence[Patches], references: Sequence[Sequence[Sequence[Reference]]], tau: float, merge: float
) -> list[Segmentation]:
    """Return the segmentation of each target, in float32; a GPU is waited for once. ModelMismatch: too many patches.

    References are of each target and class 1..N; those whose mask is empty do not count. Clusters are merged from the
    cosine ``tau`` on. Each goes to the class in which its score is largest, or to the background if none is above
    ``merge``. The paper has one class; several share the clusters and compete for them.
    """
    if (patches := len(targets[0].plain)) > MAX_PATCHES:
        raise ModelMismatch(f"an image gives {patches} patches, more than {MAX_PATCHES}; give smaller images")
    found = [[find_candidates(t.debiased, o) if o else None for o in own] for t, own in zip(targets, references)]
    facts, out = [[None if one is None else one.facts for one in own] for own in found], []
    cosines: list[Iterable[Tensor]] = [_cosines(target.plain) for target in targets]  # a CPU computes them later
    if not targets[0].plain.is_cpu:
        facts, cosines = to_cpu([facts, [list(own) for own in cosines]])
    for target, own, known, of_target in zip(targets, found, facts, cosines):
        shown, present = zip(*((False, False) if fact is None else fact.tolist() for fact in known))
        seen = [one if there else None for one, there in zip(own, shown)]
        if not any(present):
            empty = torch.zeros(target.grid, dtype=torch.int64, device=target.plain.device)
            out.append(Segmentation(seen, None, [None] * len(own), empty))
            continue
        of_patch, sizes = (to_device(x, target.plain.device) for x in clusters_of(of_target, tau))
        clustered = of_patch, sizes, target
        scores = [score_clusters(*clustered, one) if one and there else None for one, there in zip(own, present)]
        nothing = torch.full_like(sizes, merge)
        of_class = torch.stack([nothing, *(nothing if one is None else one.score for one in scores)])  # (N + 1, M)
        out.append(Segmentation(seen, of_patch, scores, of_class.argmax(0)[of_patch].unflatten(0, target.grid)))
    return out


def class_logits(classes_hw: Tensor, classes: int, size: Sequence[int]) -> Tensor:
    """Return logits (N + 1, H, W) of a map of classes: the share a_c of each on the canvas, minus 1/2.

    With one class their argmax is the mask a > 1/2.
    """
    share = resize_cells(F.one_hot(classes_hw, classes + 1).movedim(-1, 0)[1:].float()[None], size)[0]
    return torch.cat([1 - share.sum(0, keepdim=True), share]) - INSIDE
