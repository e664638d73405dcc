"""Clusters of similar patches in the target (section 6): average linkage over cosine distances."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

MAX_PATCHES = 10_000  # whose pairs take 400 MB twice
BLOCK_ROWS = 256  # of the matrix of distances that exist at a time


def clusters_of(target_nc: Tensor, tau: float) -> Tensor:
    """Return the cluster of each patch, (n,) int64, numbered by first appearance.

    All merges at an average distance below 1 - tau are carried out.

    Args:
        target_nc: unit features (n, C), not debiased.
        tau: cosine from which on clusters are merged.
    """
    from scipy.cluster.hierarchy import fcluster, linkage  # other methods need no scipy

    if len(target_nc) == 1:
        return torch.zeros(1, dtype=torch.int64, device=target_nc.device)
    tree = linkage(_condensed_distances(target_nc), method="average")
    labels = fcluster(tree, np.nextafter(1 - tau, 0), criterion="distance")
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    number = np.empty_like(first)
    number[first.argsort()] = np.arange(len(first))
    return torch.from_numpy(number[inverse]).to(target_nc.device)


def _condensed_distances(x_nc: Tensor) -> np.ndarray:
    """Return 1 - cosine of all pairs i < j, row by row, (n (n - 1) / 2,) float64."""
    count = len(x_nc)
    out, filled = np.empty(count * (count - 1) // 2), 0
    for start in range(0, count, BLOCK_ROWS):
        cosines = (x_nc[start : start + BLOCK_ROWS] @ x_nc[start:].T).clamp(-1, 1).cpu().numpy()
        for row, values in enumerate(cosines):
            others = values[row + 1 :]
            out[filled : filled + len(others)] = 1 - others.astype(np.float64)
            filled += len(others)
    return out
