"""The centres of a class: its support features, and a spherical k-means without random numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from model.common.grid_mask import mask_on_grid
from model.common.ops import unit

MAX_ROUNDS = 20  # of k-means
SAME = 1e-6  # points are equal where 1 - cosine is at most this: rounding, with one support among the shots twice


def points_of_class(supports: Sequence[tuple[Tensor, Tensor]], class_index: int) -> Tensor:
    """Return the unit features of a class's cells over all supports, shot-major, then row-major, (n, C); n may be 0.

    Args:
        supports: at least one, of unit features (C, h, w) and a label map (H, W).
        class_index: 0 background, 1..N the classes of the episode; pixels of label 255 are of none.
    """
    points = [f.flatten(1).T[mask_on_grid(label == class_index, f.shape[-2:]).flatten()] for f, label in supports]
    return torch.cat(points)


def spherical_kmeans(points_nc: Tensor, k: int) -> Tensor:
    """Return at most k centres (k', C) of unit vectors (n, C) by cosine; all points if there are at most k.

    Ties go to the lowest index, so that the result depends on the order of points only there. A centre without points
    stays where it is.
    """
    if len(points_nc) <= k:
        return points_nc
    centres = _farthest_first(points_nc, k)
    assigned = None
    for _ in range(MAX_ROUNDS):
        nearest = (points_nc @ centres.T).argmax(1)
        if assigned is not None and torch.equal(nearest, assigned):
            break
        assigned = nearest
        total = torch.zeros_like(centres).index_add_(0, assigned, points_nc)
        occupied = assigned.bincount(minlength=k) > 0
        centres = torch.where(occupied[:, None], unit(total, dim=1), centres)
    return centres


def _farthest_first(points_nc: Tensor, k: int) -> Tensor:
    """Return k of the points: the one nearest to the mean, then each time the one farthest from those chosen."""
    chosen = [int((points_nc @ unit(points_nc.mean(0), dim=0)).argmax())]
    largest = points_nc @ points_nc[chosen[0]]  # cosine to the nearest centre so far
    while len(chosen) < k:
        chosen.append(int(largest.clamp(max=1 - SAME).argmin()))
        largest = torch.maximum(largest, points_nc @ points_nc[chosen[-1]])
    return points_nc[chosen]
