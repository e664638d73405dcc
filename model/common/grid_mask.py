"""A support's mask on the grid of its features, for methods that select cells."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from model.common.ops import resize_cells

INSIDE = 0.5  # a cell belongs to the mask if its resized value is larger


def mask_on_grid(mask_hw: Tensor, size: Sequence[int]) -> Tensor:
    """Return the cells of a binary mask (H, W), bool (h, w); none for an empty mask, else at least one.

    A cell counts where the mask, resized bilinearly without aligned corners, is above 1/2. If none does, the nearest
    pixel of each cell decides; if none does either, the cell that holds the mean position of the mask's pixels counts.
    """
    mask = mask_hw.bool()
    cells = resize_cells(mask[None, None].float(), size)[0, 0] > INSIDE
    if cells.any() or not mask.any():
        return cells
    rows, columns = (torch.arange(n, device=mask.device) * full // n for n, full in zip(size, mask.shape))
    cells = mask[rows[:, None], columns]
    if not cells.any():
        centre = mask.nonzero().double().mean(0).tolist()  # (y, x)
        row, column = (int(at * n / full) for at, n, full in zip(centre, size, mask.shape))
        cells[row, column] = True
    return cells
