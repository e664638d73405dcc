"""GF-SAM's steps, in the paper's order: maps of similarity, points, the graph of their masks, and its gates.

Maps are vectors (n,) float32 of a grid of G x G patches, patch j = G y + x. Patches (n, C) have length 1, so that their
products are cosines.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from model.tensors.cells import resize_cells
from model.tensors.ops import in_float32, min_max

MOST_POINTS, MASKS_AT_ONCE = 128, 16
EPS, RANGE_EPS = 1e-7, 1e-6


class SimilarityMaps(NamedTuple):
    """How the query's patches resemble the supports, (n,) each."""

    pos_max: Tensor
    pos_mean: Tensor
    neg_mean: Tensor
    filtered: Tensor  # the product of the first two in 0..1, 0 where the supports' background is nearer


@in_float32
def mean_patches(weights_mn: Tensor, patches_nc: Tensor) -> Tensor:
    """Return weighted means (m, C) of patches, whose products with others are mean cosines, for m sets of weights."""
    sums_mc = weights_mn @ patches_nc
    mean_weight_m1 = weights_mn.mean(1, keepdim=True)
    return sums_mc / len(patches_nc) / (mean_weight_m1 + EPS)


def similarity_maps(patches_nc: Tensor, supports: Sequence[tuple[Tensor, Tensor, Tensor]]) -> SimilarityMaps:
    """Return the maps of a query from at least one support.

    Supports are patches (m, C) with the object's share in 0..1 (m,), where one stands for all without it, and the
    ``mean_patches`` of object and background (2, C).
    """
    shots = []
    for support_mc, shares_m, means_2c in supports:
        weighted_mn = shares_m[:, None] * (support_mc @ patches_nc.T)
        largest = weighted_mn.amax(0)
        shots.append(torch.stack([largest, *means_2c @ patches_nc.T]))
    pos_max, pos_mean, neg_mean = torch.stack(shots).mean(0)
    positive = min_max(pos_mean * pos_max, RANGE_EPS)
    negative = min_max(neg_mean, RANGE_EPS)
    return SimilarityMaps(pos_max, pos_mean, neg_mean, torch.where(negative <= positive, positive, 0.0))


def points_of(filtered_n: Tensor, grid: int) -> Tensor:
    """Return the points (P, 2) int64, x and y in patches, by x, then y; none where the map is 0 everywhere."""
    total = float(filtered_n.sum())
    count = max(int(total), 1) if total > 0 else 0
    best = filtered_n.topk(min(count, MOST_POINTS)).indices
    x = best % grid
    y = best // grid
    order = (x * grid + y).argsort()
    return torch.stack([x, y], 1)[order]


class Verdict(NamedTuple):
    """The gates of P points' masks, (P,) each, and the answer."""

    components: np.ndarray  # int64, by first appearance
    foreground: Tensor  # bool: the mask grew on the object
    state: Tensor  # int64: 1 foreground and consistent, 2 one of the two, 0 neither
    mask: Tensor  # (S, S) bool


def judge(masks_pss: Tensor, points_p2: Tensor, maps: SimilarityMaps, patches_nc: Tensor) -> Verdict:
    """Return the verdict on the masks (P, S, S) bool of at least one point, for the query's patches."""
    grid = round(len(maps.pos_mean) ** 0.5)
    components = weak_components(masks_pss, points_p2, grid)
    members = torch.from_numpy(components).to(masks_pss.device)  # the component of each mask
    count = int(components.max()) + 1
    masks_of = [(members == number).nonzero()[:, 0] for number in range(count)]
    foreground, surplus = grow(on_grid(masks_pss, grid), masks_of, maps)

    unions = torch.stack([masks_pss[masks].any(0) for masks in masks_of])
    nearest = nearest_component(on_grid(unions, grid), points_p2, members, patches_nc)
    consistent = nearest == members
    share = torch.stack([consistent[masks].float().mean() for masks in masks_of])
    is_consistent = share >= 0.5  # of each component
    gates = foreground.long() + (consistent & is_consistent[members])  # passed by each mask
    state = torch.where(gates == 2, 1, torch.where(gates == 1, 2, 0))
    if (state == 1).any():
        return Verdict(components, foreground, state, masks_pss[state == 1].any(0))
    best = int((surplus * (state == 2)).argmax())
    return Verdict(components, foreground, state, masks_pss[best])


def weak_components(masks_pss: Tensor, points_p2: Tensor, grid: int) -> np.ndarray:
    """Return the component of each mask, (P,) int64 by first appearance, of the graph of masks that cover points."""
    from scipy.sparse.csgraph import connected_components  # other methods need no scipy

    patch = torch.arange(grid, device=masks_pss.device)
    rows = patch * masks_pss.shape[-1] // grid
    x, y = points_p2.unbind(1)
    arcs_pp = masks_pss[:, rows[y], rows[x]]  # mask a on the patch of point b
    labels = connected_components(arcs_pp.cpu().numpy(), connection="weak")[1]
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return first.argsort().argsort()[inverse]


def grow(soft_pn: Tensor, masks_of: Sequence[Tensor], maps: SimilarityMaps) -> tuple[Tensor, Tensor]:
    """Return whether each mask grew on the object, (P,) bool, and the last surplus of its component, (P,).

    ``masks_of`` are the numbers of each component's masks, ascending.
    A component grows by its masks, those of most gain first; a mask's surplus is what it adds nearer to the object
    less what it adds nearer to the background.
    """
    middle = (maps.pos_mean.max() + maps.pos_mean.min()) / 2  # h
    positive = maps.pos_mean**2
    negative = maps.neg_mean * middle
    nearer = positive > negative
    difference_p = (soft_pn * (positive - negative)).sum(1)
    gain = difference_p / (soft_pn.sum(1) + RANGE_EPS)
    foreground = torch.zeros(len(soft_pn), dtype=torch.bool, device=soft_pn.device)
    last_surplus = torch.zeros(len(soft_pn), device=soft_pn.device)
    for masks in masks_of:
        order = gain[masks].argsort(descending=True, stable=True)
        grown = torch.zeros_like(maps.pos_mean)
        for mask in masks[order].tolist():
            new = soft_pn[mask] * (1 - grown)
            on_object = (nearer * new).sum()
            surplus = on_object - (~nearer * new).sum()
            if surplus > 0:
                foreground[mask] = True
                grown = grown + new
            last_surplus[masks] = surplus
    return foreground, last_surplus


def nearest_component(unions_cn: Tensor, points_p2: Tensor, members: Tensor, patches_nc: Tensor) -> Tensor:
    """Return the component that each point's patch resembles most, by its distance in the image too, (P,) int64.

    ``unions_cn`` are the components' masks on the patches.
    """
    grid = round(unions_cn.shape[1] ** 0.5)
    similarity_cn = mean_patches(unions_cn, patches_nc) @ patches_nc.T  # z
    apart_pp = (points_p2[:, None] - points_p2).float().norm(dim=2)
    distances = [apart_pp[:, members == number].amin(1) for number in range(len(unions_cn))]
    distance_cp = torch.stack(distances)
    x, y = points_p2.unbind(1)
    at_points = similarity_cn[:, y * grid + x]
    z = at_points / torch.where(distance_cp == 0, 1.0, distance_cp)
    return z.argmax(0)


def on_grid(masks_pss: Tensor, grid: int) -> Tensor:
    """Return masks (P, S, S) bool resized to the patches, (P, n) in 0..1."""
    pieces = masks_pss[:, None].split(MASKS_AT_ONCE)
    return torch.cat([resize_cells(masks.float(), (grid, grid)) for masks in pieces]).flatten(1)
