"""GF-SAM's steps, in the paper's order: maps of likeness, points, the graph of their masks, and its gates.

Maps are vectors (n,) float32 of a grid of G x G patches, patch j = G y + x.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from model.common.ops import min_max, resize_cells

MOST_POINTS, MASKS_AT_ONCE = 128, 16
EPS, RANGE_EPS = 1e-7, 1e-6


class Maps(NamedTuple):
    """How the query's patches resemble the supports, (n,) each."""

    pos_max: Tensor
    pos_mean: Tensor
    neg_mean: Tensor
    filtered: Tensor  # the product of the first two in 0..1, 0 where the supports' background is nearer


def cosines(support_nc: Tensor, query_nc: Tensor) -> Tensor:
    """Return the cosine of each support patch (row) to each query patch of features F'."""
    return support_nc @ query_nc.T / (support_nc.norm(dim=1)[:, None] * query_nc.norm(dim=1) + EPS)


def mean_prior(weights_mn: Tensor, cosines_nn: Tensor) -> Tensor:
    """Return the mean cosine of each query patch to weighted support patches, (m, n), for m sets of weights."""
    return weights_mn @ cosines_nn / len(cosines_nn) / (weights_mn.mean(1, keepdim=True) + EPS)


def similarity_maps(query_nc: Tensor, supports: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Maps:
    """Return the maps of a query from at least one support: features F' (n, C), object and background (n,) in 0..1."""
    each = []
    for features, of_object, of_rest in supports:
        cos = cosines(features, query_nc)
        means = mean_prior(torch.stack([of_object, of_rest]), cos)
        each.append(torch.stack([(of_object[:, None] * cos).amax(0), *means]))
    pos_max, pos_mean, neg_mean = torch.stack(each).mean(0)
    both, rest = min_max(pos_mean * pos_max, RANGE_EPS), min_max(neg_mean, RANGE_EPS)
    return Maps(pos_max, pos_mean, neg_mean, torch.where(rest <= both, both, 0.0))


def points_of(filtered_n: Tensor, grid: int) -> Tensor:
    """Return the points (P, 2) int64, x and y in patches, by x, then y; none where the map is 0 everywhere."""
    total = float(filtered_n.sum())
    best = filtered_n.topk(min(max(int(total), int(total > 0)), MOST_POINTS)).indices
    x, y = best % grid, best // grid
    return torch.stack([x, y], 1)[(x * grid + y).argsort()]


class Verdict(NamedTuple):
    """The gates of P points' masks, (P,) each, and the answer."""

    components: np.ndarray  # int64, by first appearance
    foreground: Tensor  # bool: the mask grew on the object
    state: Tensor  # int64: 1 foreground and consistent, 2 one of the two, 0 neither
    mask: Tensor  # (S, S) bool


def judge(masks_pss: Tensor, points_p2: Tensor, maps: Maps, query_nc: Tensor) -> Verdict:
    """Return the verdict on the masks (P, S, S) bool of at least one point, for the query's features F'."""
    from scipy.sparse.csgraph import connected_components  # other methods need no scipy

    device, side, grid = masks_pss.device, masks_pss.shape[-1], round(len(maps.pos_mean) ** 0.5)
    rows = torch.arange(grid, device=device) * side // grid
    covers = masks_pss[:, rows[points_p2[:, 1]], rows[points_p2[:, 0]]]  # arcs (P, P): mask a on the patch of point b
    labels = connected_components(covers.cpu().numpy(), connection="weak")[1]
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    components = first.argsort().argsort()[inverse]
    own, soft = torch.from_numpy(components).to(device), on_grid(masks_pss, grid)

    middle = (maps.pos_mean.max() + maps.pos_mean.min()) / 2  # h
    positive, negative = maps.pos_mean**2, maps.neg_mean * middle
    nearer, gain = positive > negative, (soft * (positive - negative)).sum(1) / (soft.sum(1) + RANGE_EPS)
    foreground = torch.zeros(len(soft), dtype=torch.bool, device=device)
    last = torch.zeros(len(soft), device=device)  # of each mask's component: the surplus of the last one seen
    unions = []
    for number in range(len(first)):
        members, grown = (own == number).nonzero()[:, 0], torch.zeros_like(maps.pos_mean)
        for a in members[gain[members].argsort(descending=True, stable=True)].tolist():
            new = soft[a] * (1 - grown)
            surplus = (nearer * new).sum() - (~nearer * new).sum()
            if surplus > 0:
                foreground[a] = True
                grown = grown + new
            last[members] = surplus
        unions.append(on_grid(masks_pss[members].any(0)[None], grid)[0])

    likest = mean_prior(torch.stack(unions), cosines(query_nc, query_nc))  # z, (components, n)
    away = (points_p2[:, None] - points_p2).float().norm(dim=2)
    distance = torch.stack([away[:, own == number].amin(1) for number in range(len(first))])
    z = likest[:, points_p2[:, 1] * grid + points_p2[:, 0]] / torch.where(distance == 0, 1.0, distance)
    consistent = z.argmax(0) == own
    share = torch.stack([consistent[own == number].float().mean() for number in range(len(first))])
    both = foreground.long() + (consistent & (share >= 0.5)[own])
    state = torch.where(both == 2, 1, torch.where(both == 1, 2, 0))
    if (state == 1).any():
        return Verdict(components, foreground, state, masks_pss[state == 1].any(0))
    return Verdict(components, foreground, state, masks_pss[int((last * (state == 2)).argmax())])


def on_grid(masks_pss: Tensor, grid: int) -> Tensor:
    """Return masks (P, S, S) bool resized to the patches, (P, n) in 0..1."""
    some = masks_pss[:, None].split(MASKS_AT_ONCE)
    return torch.cat([resize_cells(masks.float(), (grid, grid)) for masks in some]).flatten(1)
