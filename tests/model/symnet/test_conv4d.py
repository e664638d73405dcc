"""The 4D head equals its definition cell by cell, and learns inside Sym-Net."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from model.symnet.extensions.conv4d import Conv4dCorrelation
from model.symnet.symnet_plus import CorrelationSettings
from tests.model.small import drawn_episode, rectangle_mask, slow_correlation, slow_resize, small_model
from tests.model.symnet.correlated import correlated

EPS, INSIDE = 1e-5, 1 - 1e-6
SIDE = 33  # of masks
STAGE, MAPS = 3, 2


def _slow_cells(query: np.ndarray, support: np.ndarray, mask: np.ndarray, grid: int) -> np.ndarray:
    """Return one query's (h, w, R, R): the kept correlation of each cell, mean over shots."""
    height, width = query.shape[1:]
    total = np.zeros((height, width, grid, grid))
    for shot, shot_mask in zip(support, mask):
        correlation = slow_correlation(query, shot, EPS) * (slow_resize(shot_mask, (height, width))[0] >= INSIDE)
        for row, column in np.ndindex(grid, grid):
            rows = [y for y in range(height) if y * grid // height == row]
            columns = [x for x in range(width) if x * grid // width == column]
            if rows and columns:
                total[:, :, row, column] += correlation[:, :, rows][:, :, :, columns].mean((2, 3)) / len(support)
    return total


@pytest.mark.parametrize("grid", [3, 4, 8], ids=["equal cells", "unequal cells", "more cells than positions"])
def test_cells_equal_the_mean_of_the_4d_correlation(grid: int) -> None:
    torch.manual_seed(1)
    query, support = torch.randn(2, 4, 6, 5), torch.randn(4, 4, 6, 5)
    places = [(3, 22, 5, 30), (0, 33, 0, 15), (15, 33, 7, 33), (0, 33, 0, 33)]
    masks = torch.stack([rectangle_mask(SIDE, SIDE, slice(a, b), slice(c, d)) for a, b, c, d in places])
    given = correlated(Conv4dCorrelation({STAGE: 1}, grid), query, support, masks.unflatten(0, (2, 2)))
    assert given.shape == (2, 6, 5, grid, grid)
    for b in range(2):
        own = slice(2 * b, 2 * b + 2)
        slow = _slow_cells(*(x.double().numpy() for x in (query[b], support[own], masks[own])), grid)
        np.testing.assert_allclose(given[b].numpy(), slow, atol=1e-5)


def _cells(maps: int = MAPS) -> list[Tensor]:
    head, mask = Conv4dCorrelation({STAGE: maps}), rectangle_mask(SIDE, SIDE, slice(5, 30), slice(0, 20))
    return [correlated(head, torch.rand(1, 4, 9, 9), torch.rand(1, 4, 9, 9), mask[None, None]) for _ in range(maps)]


# --- inside Sym-Net --------------------------------------------------------------------------------------------------


@pytest.mark.train
@pytest.mark.parametrize(("shots", "precision"), [(1, torch.float32), (2, torch.bfloat16)])
def test_symnet_predicts_and_learns_with_it(shots: int, precision: torch.dtype) -> None:
    network = small_model("symnet_plus", shots, correlation=CorrelationSettings("conv4d", support_grid=4))
    episode, own = drawn_episode("symnet", shots, 2), list(network.correlation.parameters())
    with torch.no_grad():
        logits = network(episode).logits
    assert logits.isfinite().all() and logits.shape == (2, 2, *episode.query.shape[-2:])

    meta = {id(p) for group in network.param_groups() for p in group.params}
    assert own and {id(p) for p in own} <= meta
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        losses = network.train()(episode).losses
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in own)
    assert all(p.grad is None for p in network.encoder.parameters())

    with torch.no_grad():
        for p in own:
            p.zero_()
        assert not torch.allclose(network.eval()(episode).logits, logits)  # its maps count
