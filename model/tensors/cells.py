"""Cells that tile an image: each of h rows covers H / h pixels."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def resize_cells(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize (B, C, H, W) bilinearly without aligned corners: cells tile the image, each covers H / h pixels."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def on_cells(label: Tensor, grid: Sequence[int]) -> Tensor:
    """Return labels (..., H, W) on a grid (..., h, w), nearest pixels: cell i has row floor(i H / h)."""
    places = []  # of rows, of columns
    for n, side in zip(grid, label.shape[-2:]):
        cell = torch.arange(n, device=label.device)
        places.append(cell * side // n)
    rows, columns = places
    return label[..., rows[:, None], columns]
