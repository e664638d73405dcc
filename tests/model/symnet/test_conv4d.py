"""The 4D head equals its definition cell by cell, and learns inside Sym-Net."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from model.symnet.extensions.conv4d import WIDTH, Conv4dCorrelation
from model.symnet.hyper_correlation import OUT_CHANNELS, CorrelationFusion, PooledCorrelation
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


def test_cells_weighted_by_their_sizes_give_the_pooled_map() -> None:
    """The pooled map is sum_c n_c x_c / m: n_c positions in cell c, m of all inside the mask."""
    torch.manual_seed(2)
    query, support, side, grid = torch.rand(1, 4, 9, 9), torch.rand(1, 4, 9, 9), 9, 4
    mask = rectangle_mask(side, side, slice(1, 6), slice(3, 9))[None, None]
    cell_of = np.arange(side) * grid // side
    sizes = torch.from_numpy(np.outer(np.bincount(cell_of), np.bincount(cell_of)))
    cells = correlated(Conv4dCorrelation({STAGE: 1}, grid), query, support, mask)
    pooled = correlated(PooledCorrelation({STAGE: 1}), query, support, mask)
    torch.testing.assert_close((cells * sizes).sum((3, 4)) / mask.sum(), pooled)


def test_where_in_the_support_the_object_lies_is_kept() -> None:
    torch.manual_seed(3)
    query, support = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    mask = rectangle_mask(8, 8, slice(0, 4), slice(0, 3))[None, None]
    head, pooled = Conv4dCorrelation({STAGE: 1}, 4), PooledCorrelation({STAGE: 1})
    cells, mirrored = correlated(head, query, support, mask), correlated(head, query, support.flip(3), mask.flip(4))
    torch.testing.assert_close(mirrored, cells.flip(4))
    assert not cells[..., 2:].any() and cells[..., :2, 0].any()
    torch.testing.assert_close(
        correlated(pooled, query, support, mask), correlated(pooled, query, support.flip(3), mask.flip(4))
    )
    maps, of_mirrored = (head.squeeze({STAGE: [x]})[STAGE] for x in (cells, mirrored))
    assert not torch.allclose(maps, of_mirrored, atol=1e-2)


def test_empty_mask_gives_zeros_and_counts_as_a_shot() -> None:
    torch.manual_seed(4)
    query, support = torch.rand(1, 4, 6, 6), torch.rand(2, 4, 6, 6)
    head, full, empty = Conv4dCorrelation({STAGE: 1}), torch.ones(1, SIDE, SIDE), torch.zeros(1, SIDE, SIDE)
    none = correlated(head, query, support, torch.stack([empty, empty])[None])
    assert (none == 0).all()
    assert (head.squeeze({STAGE: [none]})[STAGE] == 0).all()  # norms still without a shift
    one = correlated(head, query, support, torch.stack([full, empty])[None])
    torch.testing.assert_close(one, correlated(head, query, support[:1], full[None, None]) / 2)


def _cells(maps: int = MAPS) -> list[Tensor]:
    head, mask = Conv4dCorrelation({STAGE: maps}), rectangle_mask(SIDE, SIDE, slice(5, 30), slice(0, 20))
    return [correlated(head, torch.rand(1, 4, 9, 9), torch.rand(1, 4, 9, 9), mask[None, None]) for _ in range(maps)]


def test_squeezed_maps_are_of_order_one_however_weak_the_similarities() -> None:
    torch.manual_seed(5)
    head, cells = Conv4dCorrelation({STAGE: MAPS}), _cells()
    with torch.no_grad():
        maps, weak = (head.squeeze({STAGE: [scale * x for x in cells]})[STAGE] for scale in (1, 0.01))
    assert maps.shape == (1, WIDTH, 9, 9)
    assert 0.1 < maps.std() < 2
    torch.testing.assert_close(weak, maps, atol=0.05, rtol=0)


@pytest.mark.parametrize("support_grid", [4, 7, 16])
def test_every_support_grid_is_squeezed_by_convolutions(support_grid: int) -> None:
    head = Conv4dCorrelation({STAGE: 1}, support_grid)
    maps = head.squeeze({STAGE: [torch.rand(2, 5, 3, support_grid, support_grid)]})[STAGE]
    assert maps.shape == (2, WIDTH, 5, 3)
    maps.square().sum().backward()
    assert all(p.grad.any() for p in head.parameters())


def test_a_finer_grid_in_stage_2_fuses_with_the_others() -> None:
    torch.manual_seed(6)
    counts, grids, mask = {2: 3, 3: 3, 4: 1}, {2: (5, 5), 3: (3, 3), 4: (3, 3)}, torch.ones(1, 2, 1, SIDE, SIDE)
    head = Conv4dCorrelation(counts)
    images = {i: [torch.rand(3, 4, *grids[i]) for _ in range(n)] for i, n in counts.items()}
    maps = head.squeeze({i: [correlated(head, x[:1], x[1:], mask) for x in each] for i, each in images.items()})
    assert {i: m.shape for i, m in maps.items()} == {i: (1, WIDTH, *grids[i]) for i in counts}
    assert CorrelationFusion(head.out_counts)(maps).shape == (1, OUT_CHANNELS, *grids[3])


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
