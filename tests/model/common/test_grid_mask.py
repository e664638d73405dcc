"""A mask on the grid of its features: by area, else by nearest pixels, else the cell of its centre."""

import numpy as np
import pytest
import torch

from model.common.training_free import mask_on_grid

GRID = (3, 4)


@pytest.mark.parametrize("shape", [(24, 32), (25, 33), (17, 19)])
def test_cells_are_those_of_half_pixel_interpolation(shape: tuple[int, int]) -> None:
    mask = torch.from_numpy((np.random.default_rng(0).random(shape) > 0.4).astype(np.float32))
    want = np.zeros(GRID)
    for i, j in np.ndindex(*GRID):
        (y, x), values = ((n + 0.5) * s / g - 0.5 for n, s, g in zip((i, j), shape, GRID)), mask.numpy()
        top, left = int(y), int(x)
        a, b = y - top, x - left
        upper = (1 - b) * values[top, left] + b * values[top, left + 1]
        lower = (1 - b) * values[top + 1, left] + b * values[top + 1, left + 1]
        want[i, j] = (1 - a) * upper + a * lower
    assert np.array_equal(mask_on_grid(mask, GRID).numpy(), want > 0.5)
