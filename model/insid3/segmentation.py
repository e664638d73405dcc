"""INSID3's steps after the positions, in the paper's order: candidates (sections 4, 5), clusters (6), scores (7)."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from model.insid3.positions import debiased
from model.mismatch import ModelMismatch
from model.tensors.cells import resize_cells
from model.tensors.transfers import to_cpu, to_device

FORWARD_QUANTILE = 0.9  # of cosines: where no patch resembles the prototype, those above this quantile count
BLOCK_ELEMENTS = 2**22  # of the cosines between two images that exist at a time, 16 MiB
MAX_PATCHES = 10_000  # whose pairs take 400 MB twice
BLOCK_ROWS = 256  # of the matrix of distances that exist at a time
INSIDE = 0.5  # a pixel belongs to the mask if the resized mask of patches is larger


class Patches(NamedTuple):
    """The n patches of an image: unit features X, and D(X), those without positions, (n, C) each; their grid (h, w)."""

    plain: Tensor
    debiased: Tensor
    grid: torch.Size

    @staticmethod
    def of(features_chw: Tensor, basis_cr: Tensor | None) -> "Patches":
        """Return the patches of an image with unit features (C, h, w)."""
        plain = features_chw.flatten(1).T.contiguous()
        return Patches(plain, debiased(plain, basis_cr), features_chw.shape[1:])


class Reference(NamedTuple):
    """The m patches of a support."""

    debiased: Tensor  # D(X), (m, C)
    inside: Tensor  # bool (m,): those of its mask


class Candidates(NamedTuple):
    """How the target's n patches match K references; those whose mask is empty do not count."""

    prototype: Tensor  # (C,), the mean over references of the mean over their masks, of length 1
    sim_forward: Tensor  # (n,), cosine of each patch to the prototype
    forward: Tensor  # bool (n,): similar to the prototype
    votes: Tensor  # (n,) int64: references whose most similar patch lies inside their mask
    candidates: Tensor  # bool (n,): forward, and with the votes of half of the references
    presence: Tensor  # bool (2,): whether a reference has a mask, and whether there are candidates


def find_candidates(target_nc: Tensor, references: Sequence[Reference]) -> Candidates:
    """Return the candidates among the target's debiased features (n, C), from at least one reference."""
    features = [reference.debiased for reference in references]
    masks = [reference.inside for reference in references]
    areas = torch.stack([mask.sum() for mask in masks])  # (K,)
    shown = (areas > 0).sum()  # references that count

    # Forward: the target's patches that resemble the prototype.
    means = []
    for mask, x, area in zip(masks, features, areas):
        total = mask.to(x) @ x
        means.append(total / area.clamp(min=1))
    mean = torch.stack(means).sum(0) / shown.clamp(min=1)
    prototype = F.normalize(mean, dim=0)
    sim_forward = target_nc @ prototype
    positive = sim_forward > 0
    largest = sim_forward > sim_forward.quantile(FORWARD_QUANTILE)
    forward = torch.where(positive.any(), positive, largest)

    # Backward: each reference votes for those whose most similar patch lies inside its mask.
    votes = torch.zeros_like(forward, dtype=torch.int64)
    for mask, reference_nc in zip(masks, features):
        votes += mask[best_matches(target_nc, reference_nc)]
    enough = votes >= (shown + 1) // 2
    candidates = forward & enough & (shown > 0)
    presence = torch.stack([shown > 0, candidates.any()])
    return Candidates(prototype, sim_forward, forward, votes, candidates, presence)


def best_matches(target_nc: Tensor, reference_mc: Tensor) -> Tensor:
    """Return the reference's most similar patch for each of the target's, (n,) int64."""
    rows = max(1, BLOCK_ELEMENTS // len(reference_mc))
    matches = [(block @ reference_mc.T).argmax(1) for block in target_nc.split(rows)]
    return torch.cat(matches)


def _cosines(target_nc: Tensor) -> Iterator[Tensor]:
    """Yield the cosines of blocks of patches to themselves and all later ones."""
    for start in range(0, len(target_nc), BLOCK_ROWS):
        block = target_nc[start : start + BLOCK_ROWS]
        yield (block @ target_nc[start:].T).clamp(-1, 1)


def clusters_of(cosines: Iterable[Tensor], tau: float) -> tuple[Tensor, Tensor]:
    """Return the cluster of each of n patches, (n,) int64, and the sizes of all, (M,) float32, by average linkage.

    All merges at an average distance 1 - cosine below 1 - tau are carried out; clusters are numbered by first
    appearance. ``cosines`` are those of ``_cosines``.
    """
    from scipy.cluster.hierarchy import fcluster, linkage  # other methods need no scipy

    pairs = [block[torch.ones_like(block, dtype=torch.bool).triu(1)] for block in cosines]
    distances = 1 - torch.cat(pairs).double()  # of all i < j, row by row
    labels = np.ones(1)
    if len(distances):
        tree = linkage(distances.numpy(), method="average")
        labels = fcluster(tree, np.nextafter(1 - tau, 0), criterion="distance")
    _, first, inverse, sizes = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    order = first.argsort()  # of the labels, by first appearance
    numbers = order.argsort()
    clusters_n = torch.from_numpy(numbers[inverse])
    sizes_m = torch.from_numpy(sizes[order]).float()
    return clusters_n, sizes_m


class ClusterScores(NamedTuple):
    """Scores of M clusters for one class."""

    seed_sim: Tensor  # (M,) cosine of the prototype to the cluster's mean debiased feature
    cross: Tensor  # (M,) mean cosine of the cluster's patches to the prototype
    intra: Tensor  # (M,) cosine of the cluster's mean plain feature to the seed's
    fraction: Tensor  # (M,) share of candidates among the cluster's patches
    score: Tensor  # (M,) see ``score_clusters``
    seed: Tensor  # (1,) int64: the cluster of largest ``seed_sim`` among those that hold a candidate


def score_clusters(clusters_n: Tensor, sizes_m: Tensor, target: Patches, matches: Candidates) -> ClusterScores:
    """Return the clusters' scores for a class with at least one candidate.

    A score is the product of ``cross``, ``intra`` and ``fraction``, which counts as 1 for the seed.
    """

    def cluster_mean(x_nc: Tensor) -> Tensor:  # (M, C)
        total_mc = x_nc.new_zeros(len(sizes_m), x_nc.shape[1]).index_add_(0, clusters_n, x_nc)
        return total_mc / sizes_m[:, None]

    of_patches = torch.stack([matches.sim_forward, matches.candidates.float()], dim=1)  # (n, 2)
    cross, fraction = cluster_mean(of_patches).unbind(1)
    seed_sim = F.normalize(cluster_mean(target.debiased), dim=1) @ matches.prototype
    seed = seed_sim.masked_fill(fraction == 0, -torch.inf).argmax(0, keepdim=True)
    plain_mc = F.normalize(cluster_mean(target.plain), dim=1)
    intra = plain_mc @ plain_mc.index_select(0, seed)[0]
    score = cross * intra * fraction.index_fill(0, seed, 1)
    return ClusterScores(seed_sim, cross, intra, fraction, score, seed)


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
        candidates = self.candidates[index]
        scores = self.scores[index]
        numbers = self.classes.new_zeros(6, dtype=torch.float32)
        if candidates is not None:
            cosines = candidates.sim_forward
            share = candidates.candidates.float().mean()
            numbers[:3] = torch.stack([cosines.max(), cosines.quantile(FORWARD_QUANTILE), share])
        if scores is not None:
            seed_sim = scores.seed_sim.index_select(0, scores.seed)[0]
            seed_score = scores.score.index_select(0, scores.seed)[0]
            numbers[3:] = torch.stack([seed_sim, scores.score.max(), seed_score])
        return numbers

    def pictures(self, index: int) -> dict[str, Tensor]:
        """Return maps (h, w) in 0..1 of a class, by index: cosine to its prototype, candidates, clusters' scores."""
        candidates = self.candidates[index]
        scores = self.scores[index]
        nothing = torch.zeros_like(self.classes).float()
        maps = dict.fromkeys(("sim_forward", "candidates", "cluster_score"), nothing)
        if candidates is not None:
            maps["sim_forward"] = candidates.sim_forward.clamp(0, 1)
            maps["candidates"] = candidates.candidates.float()
        if scores is not None:
            maps["cluster_score"] = scores.score.clamp(0, 1)[self.clusters]
        return {name: x.view_as(nothing) for name, x in maps.items()}


def segment(
    targets: Sequence[Patches], references: Sequence[Sequence[Sequence[Reference]]], tau: float, merge: float
) -> list[Segmentation]:
    """Return the segmentation of each target, in float32; a GPU is waited for once.

    The paper has one class; several share the clusters and compete for them.

    Args:
        targets: the patches of each query.
        references: of each target the references of the classes 1..N; those whose mask is empty do not count.
        tau: the cosine from which on clusters are merged.
        merge: a cluster goes to the class of its largest score, to the background if no score is above this.

    Raises:
        ModelMismatch: too many patches.
    """
    patches = len(targets[0].plain)
    device = targets[0].plain.device
    if patches > MAX_PATCHES:
        raise ModelMismatch(f"an image gives {patches} patches, more than {MAX_PATCHES}; give smaller images")
    with torch.autocast(device.type, enabled=False):
        return _segment(targets, references, tau, merge)


def _segment(
    targets: Sequence[Patches], references: Sequence[Sequence[Sequence[Reference]]], tau: float, merge: float
) -> list[Segmentation]:
    """Return the segmentations as ``segment`` does, for a limited number of patches."""
    matched = [_match_classes(target, classes) for target, classes in zip(targets, references)]
    presence = []
    for classes in matched:
        presence.append([None if x is None else x.presence for x in classes])
    cosines: list[Iterable[Tensor]] = [_cosines(target.plain) for target in targets]  # a CPU computes them later
    if not targets[0].plain.is_cpu:
        presence, cosines = to_cpu([presence, [list(blocks) for blocks in cosines]])
    segmentations = []
    for target, classes, flags, blocks in zip(targets, matched, presence, cosines):
        known = _known_matches(classes, flags)
        segmentations.append(_assign_clusters(target, known, blocks, tau, merge))
    return segmentations


def _match_classes(target: Patches, references: Sequence[Sequence[Reference]]) -> list[Candidates | None]:
    """Return a target's candidates for each class; None for a class without references."""
    return [find_candidates(target.debiased, of_class) if of_class else None for of_class in references]


class Match(NamedTuple):
    """A target's candidates for a class, once the values on the device are known."""

    candidates: Candidates | None  # None if no reference has a mask
    is_present: bool  # whether there are candidates


def _known_matches(classes: Sequence[Candidates | None], flags: Sequence[Tensor | None]) -> list[Match]:
    """Return the match of each class by its candidates and their ``presence`` on the CPU."""
    matches = []
    for candidates, presence in zip(classes, flags):
        has_mask, is_present = (False, False) if presence is None else presence.tolist()
        matches.append(Match(candidates if has_mask else None, is_present))
    return matches


def _assign_clusters(
    target: Patches, matches: Sequence[Match], cosines: Iterable[Tensor], tau: float, merge: float
) -> Segmentation:
    """Return the segmentation of a target by its matches; without candidates of any class nothing is clustered."""
    device = target.plain.device
    candidates = [match.candidates for match in matches]
    if not any(match.is_present for match in matches):
        background = torch.zeros(target.grid, dtype=torch.int64, device=device)
        return Segmentation(candidates, None, [None] * len(matches), background)
    clusters_n, sizes_m = (to_device(x, device) for x in clusters_of(cosines, tau))
    unlikely = torch.full_like(sizes_m, merge)
    scores: list[ClusterScores | None] = []
    rows = [unlikely]  # of the background, then of each class
    for match in matches:
        of_class = None
        if match.candidates is not None and match.is_present:
            of_class = score_clusters(clusters_n, sizes_m, target, match.candidates)
        scores.append(of_class)
        rows.append(unlikely if of_class is None else of_class.score)
    classes_m = torch.stack(rows).argmax(0)
    return Segmentation(candidates, clusters_n, scores, classes_m[clusters_n].unflatten(0, target.grid))


def class_logits(classes_hw: Tensor, classes: int, size: Sequence[int]) -> Tensor:
    """Return logits (N + 1, H, W) of a map of classes: the share a_c of each on the canvas, minus 1/2.

    With one class their argmax is the mask a > 1/2.
    """
    one_hot = F.one_hot(classes_hw, classes + 1).movedim(-1, 0)
    masks = one_hot[1:].float()  # (N, h, w)
    share = resize_cells(masks[None], size)[0]
    background = 1 - share.sum(0, keepdim=True)
    return torch.cat([background, share]) - INSIDE
