"""Query prototypes by thresholds and, where a set is empty, by rank."""

import numpy as np
import pytest
import torch

from model.symnet.hybrid_prototype import query_prototypes

SETS = ("foreground", "ambiguous", "background")


def _distinct(*spans: tuple[float, float], count: int) -> np.ndarray:
    """Return a map of distinct priors, spread over spans of values."""
    values = np.concatenate([np.linspace(low, high, count // len(spans)) for low, high in spans])
    values = np.append(values, values[-1] + 1e-4 * np.arange(1, count - len(values) + 1))
    return np.random.default_rng(1).permutation(values).astype(np.float32)


def _check(values: np.ndarray, grid: tuple[int, int], sets: tuple) -> None:
    """Compare with the means over the positions that are expected of each set."""
    feature = torch.randn(1, 4, *grid)
    given = query_prototypes(feature, torch.from_numpy(values).view(1, 1, *grid))
    for name, positions in zip(SETS, sets):
        want = feature.double().flatten(1).view(4, -1).numpy()[:, np.asarray(positions)].mean(1)
        np.testing.assert_allclose(getattr(given, name)[0].numpy(), want, atol=1e-5, err_msg=name)


def test_thresholds_choose_the_positions_and_exclude_their_bounds() -> None:
    values = np.full(36, 0.6, np.float32)
    values[[0, 7]], values[3] = (0.71, 0.95), 0.7
    values[[10, 11, 35]], values[[12, 13]] = (0.41, 0.5, 0.54), (0.4, 0.55)
    values[[20, 21, 22]] = 0.39, 0.0, 0.2
    _check(values, (6, 6), ([0, 7], [10, 11, 35], [20, 21, 22]))


@pytest.mark.parametrize("grid", [(6, 6), (5, 7), (7, 7)])
@pytest.mark.parametrize("empty", SETS)
def test_an_empty_set_takes_twelve_positions_by_rank(empty: str, grid: tuple[int, int]) -> None:
    spans = {"foreground": [(0, 0.69)], "ambiguous": [(0, 0.35), (0.72, 1)], "background": [(0.41, 1)]}
    values = _distinct(*spans[empty], count=grid[0] * grid[1])
    order, half = np.argsort(-values), len(values) // 2
    by_rank = {"foreground": order[:12], "ambiguous": order[half - 6 : half + 6], "background": order[-12:]}
    chosen = (values > 0.7, (values > 0.4) & (values < 0.55), values < 0.4)
    found = dict(zip(SETS, map(np.flatnonzero, chosen)))
    assert len(found[empty]) == 0
    _check(values, grid, tuple((found | {empty: by_rank[empty]})[name] for name in SETS))
