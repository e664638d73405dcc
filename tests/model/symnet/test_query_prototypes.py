"""Query prototypes by thresholds and, where a set is empty, by rank."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from model.symnet.hybrid_prototype import query_prototypes

SETS = ("foreground", "ambiguous", "background")
CHANNELS = 4


def _means(feature: Tensor, positions: dict[str, list[int] | np.ndarray]) -> dict[str, np.ndarray]:
    x = feature.double().flatten(1).numpy()
    return {name: x[:, np.asarray(chosen)].mean(1) for name, chosen in positions.items()}


def _check(feature: Tensor, prior: Tensor, *expected: dict) -> None:
    """Compare with the means over the positions that are expected for each image of the batch."""
    given = query_prototypes(feature, prior)
    for b, positions in enumerate(expected):
        for name, mean in _means(feature[b], positions).items():
            np.testing.assert_allclose(getattr(given, name)[b].numpy(), mean, atol=1e-5, err_msg=f"{name} of {b}")


def _by_rank(values: np.ndarray) -> dict[str, np.ndarray]:
    """Return the fallback positions of a map: 12 largest, 12 around the median, 12 smallest."""
    order, half = np.argsort(-values), len(values) // 2
    return {"foreground": order[:12], "ambiguous": order[half - 6 : half + 6], "background": order[-12:]}


def _distinct(low: float, high: float, count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(np.linspace(low, high, count)).astype(np.float32)


def _prior(*maps: np.ndarray, grid: tuple[int, int]) -> Tensor:
    return torch.stack([torch.from_numpy(m).view(1, *grid) for m in maps])


def test_thresholds_choose_the_positions_and_exclude_their_bounds() -> None:
    values = np.full(36, 0.6, np.float32)
    values[[0, 7]], values[3] = (0.71, 0.95), 0.7
    values[[10, 11, 35]], values[[12, 13]] = (0.41, 0.5, 0.54), (0.4, 0.55)
    values[[20, 21, 22]] = 0.39, 0.0, 0.2
    feature = torch.randn(1, CHANNELS, 6, 6)
    expected = {"foreground": [0, 7], "ambiguous": [10, 11, 35], "background": [20, 21, 22]}
    _check(feature, _prior(values, grid=(6, 6)), expected)


@pytest.mark.parametrize("grid", [(6, 6), (5, 7), (7, 7)])
def test_no_sure_position_takes_the_twelve_largest(grid: tuple[int, int]) -> None:
    values = _distinct(0.0, 0.69, grid[0] * grid[1], 1)
    feature = torch.randn(1, CHANNELS, *grid)
    below, between = np.flatnonzero(values < 0.4), np.flatnonzero((values > 0.4) & (values < 0.55))
    expected = {"foreground": _by_rank(values)["foreground"], "ambiguous": between, "background": below}
    _check(feature, _prior(values, grid=grid), expected)


@pytest.mark.parametrize("grid", [(6, 6), (5, 7), (7, 7)])
def test_no_ambiguous_position_takes_twelve_around_the_median(grid: tuple[int, int]) -> None:
    count = grid[0] * grid[1]
    values = np.concatenate([_distinct(0.0, 0.35, count // 3, 2), _distinct(0.72, 1.0, count - count // 3, 3)])
    values = np.random.default_rng(4).permutation(values)
    feature = torch.randn(1, CHANNELS, *grid)
    sure, below = np.flatnonzero(values > 0.7), np.flatnonzero(values < 0.4)
    expected = {"foreground": sure, "ambiguous": _by_rank(values)["ambiguous"], "background": below}
    _check(feature, _prior(values, grid=grid), expected)


@pytest.mark.parametrize("grid", [(6, 6), (5, 7), (7, 7)])
def test_no_background_position_takes_the_twelve_smallest(grid: tuple[int, int]) -> None:
    values = _distinct(0.41, 1.0, grid[0] * grid[1], 5)
    feature = torch.randn(1, CHANNELS, *grid)
    sure, between = np.flatnonzero(values > 0.7), np.flatnonzero(values < 0.55)
    expected = {"foreground": sure, "ambiguous": between, "background": _by_rank(values)["background"]}
    _check(feature, _prior(values, grid=grid), expected)
