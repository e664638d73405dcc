"""The supports as examples: a point for each cell, with the share of each class in it as the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from model.episode import IGNORE

LEAST_KNOWN = 1e-6  # share of known pixels that a cell's shares are divided by at least


@dataclass(frozen=True)
class Examples:
    """The cells of all supports, shot-major, then row-major, float32.

    Attributes:
        points: features (n, C).
        shares: of background and classes among a cell's known pixels, (n, N + 1); a row sums to 1, or is 0.
        weight: share of known pixels in a cell, (n,).
    """

    points: Tensor
    shares: Tensor
    weight: Tensor


def examples_of(supports: Sequence[tuple[Tensor, Tensor]], classes: int) -> Examples:
    """Return the cells of at least one support, of features (C, h, w) and a label map (H, W).

    Args:
        classes: N; labels are 0 background, 1..N, 255 unknown.
    """
    parts = [(x.flatten(1).T, *_shares(label, classes, x.shape[-2:])) for x, label in supports]
    points, shares, weight = (torch.cat(kind) for kind in zip(*parts))
    return Examples(points, shares, weight)


def _shares(label_hw: Tensor, classes: int, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the share of each class in the known part of each cell, (n, N + 1), and that part, (n,)."""
    of_class = torch.stack([label_hw == c for c in range(classes + 1)] + [label_hw != IGNORE]).float()
    *shares, known = F.adaptive_avg_pool2d(of_class, (size[0], size[1])).flatten(1)
    return torch.stack(shares, dim=1) / known.clamp(min=LEAST_KNOWN)[:, None], known
