"""The pooled hyper-correlation equals the 4D correlation of its definition, pooled position by position."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from model.symnet.extensions.conv4d import Conv4dCorrelation
from model.symnet.hyper_correlation import CorrelationFusion, CorrelationHead, PooledCorrelation
from tests.model.small import rectangle_mask, slow_correlation, slow_resize
from tests.model.symnet.correlated import correlated

EPS, INSIDE = 1e-5, 1 - 1e-6
CHANNELS = {2: 3, 3: 5, 4: 6}


def _slow_map(query: np.ndarray, support: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the map of one query (C, h, w) and its shots (K, C, h, w), from the whole 4D correlation."""
    height, width = query.shape[1:]
    maps = []
    for shot, shot_mask in zip(support, mask):
        inside = slow_resize(shot_mask, (height, width))[0] >= INSIDE
        correlation = slow_correlation(query, shot, EPS)
        maps.append(correlation[:, :, inside].mean(2) if inside.any() else np.zeros((height, width)))
    return np.mean(maps, axis=0)


def _feature_maps(counts: dict[int, int], grids: dict[int, tuple[int, int]], images: int) -> dict[int, list[Tensor]]:
    return {s: [torch.randn(images, CHANNELS[s], *grids[s]) for _ in range(n)] for s, n in counts.items()}


def _maps(query: dict[int, list[Tensor]], support: dict[int, list[Tensor]], mask: Tensor) -> dict[int, Tensor]:
    """Return stage -> (B, n, h, w), the maps of all intermediate features."""
    pooled = PooledCorrelation({stage: len(maps) for stage, maps in query.items()})
    pairs = {stage: zip(maps, support[stage], strict=True) for stage, maps in query.items()}
    return pooled.squeeze({stage: [correlated(pooled, q, s, mask) for q, s in maps] for stage, maps in pairs.items()})


def _assert_equal_to_slow(query: dict, support: dict, mask: Tensor) -> dict[int, Tensor]:
    batch, shots = mask.shape[:2]
    counts = {stage: len(maps) for stage, maps in query.items()}
    maps = _maps(query, support, mask)
    assert set(maps) == set(counts)
    for stage, count in counts.items():
        assert maps[stage].shape == (batch, count, *query[stage][0].shape[-2:])
        for b in range(batch):
            for n in range(count):
                q, s = query[stage][n][b], support[stage][n].unflatten(0, (batch, shots))[b]
                slow = _slow_map(*(x.double().numpy() for x in (q, s, mask[b])))
                np.testing.assert_allclose(maps[stage][b, n].numpy(), slow, atol=1e-5)
    return maps


@pytest.mark.parametrize("side", [33, 30], ids=["exact", "between pixels"])
def test_maps_equal_the_pooled_4d_correlation(side: int) -> None:
    torch.manual_seed(0)
    counts, grids = {2: 2, 3: 1, 4: 2}, dict.fromkeys(CHANNELS, (5, 5))
    batch, shots = 2, 2
    query, support = _feature_maps(counts, grids, batch), _feature_maps(counts, grids, batch * shots)
    places = [(3, 22, 5, 30), (0, 33, 0, 15), (15, 33, 7, 33), (10, 25, 8, 25)]
    masks = [rectangle_mask(side, side, slice(a, b), slice(c, d)) for a, b, c, d in places]
    mask = torch.stack(masks).unflatten(0, (batch, shots))
    partial = [slow_resize(m.numpy(), (5, 5)) for m in masks]
    on_the_edge = any(((p > 0.01) & (p < 0.99)).any() for p in partial)
    assert on_the_edge == (side == 30)  # the second size is there for masks that only partly cover a position
    _assert_equal_to_slow(query, support, mask)


def test_negative_cosines_count_as_zero() -> None:
    query = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 3, 3)
    support = -query.clone()
    support[0, :, 0, 0] = torch.tensor([1.0, 0.0])
    given = _maps({2: [query]}, {2: [support]}, torch.ones(1, 1, 1, 17, 17))
    torch.testing.assert_close(given[2], torch.full((1, 1, 3, 3), 1 / 9), atol=1e-4, rtol=0)


def test_empty_mask_gives_zero_and_counts_as_a_shot() -> None:
    torch.manual_seed(1)
    query, support = {3: [torch.rand(1, 4, 3, 3)]}, {3: [torch.rand(2, 4, 3, 3)]}
    full, empty = torch.ones(1, 17, 17), torch.zeros(1, 17, 17)
    none = _maps(query, support, torch.stack([empty, empty])[None])[3]
    first = _maps(query, support, torch.stack([full, empty])[None])[3]
    alone = _maps(query, {3: [support[3][0][:1]]}, full[None, None])[3]
    assert (none == 0).all()
    assert (first > 0).all()
    torch.testing.assert_close(first, alone / 2)


def test_a_mask_without_interior_positions_gives_zero() -> None:
    mask = rectangle_mask(30, 30, slice(1, 7), slice(1, 7))  # between the positions 0, 7.25, ... of a 5 x 5 grid
    given = _maps({3: [torch.rand(1, 4, 5, 5)]}, {3: [torch.rand(1, 4, 5, 5)]}, mask[None, None])
    assert (given[3] == 0).all()


@pytest.mark.parametrize("side", [12, 15, 33, 48, 87])
def test_rounding_of_the_resized_mask_loses_no_interior_position(side: int) -> None:
    torch.manual_seed(5)
    query, support = {3: [torch.randn(1, 4, 6, 6)]}, {3: [torch.randn(1, 4, 6, 6)]}
    given = _maps(query, support, torch.ones(1, 1, 1, side, side))[3]
    whole = _maps(query, support, torch.ones(1, 1, 1, 6, 6))[3]
    torch.testing.assert_close(given, whole)


def test_a_finer_grid_in_stage_2_is_correlated_there_and_resized_afterwards() -> None:
    torch.manual_seed(2)
    counts, grids = {2: 3, 3: 3, 4: 1}, {2: (5, 5), 3: (3, 3), 4: (3, 3)}
    query, support = _feature_maps(counts, grids, 2), _feature_maps(counts, grids, 2)
    mask = torch.stack([rectangle_mask(33, 33, slice(0, 20), slice(5, 33))] * 2).unsqueeze(1)
    maps = _assert_equal_to_slow(query, support, mask)
    fuse = CorrelationFusion(counts).eval()
    with torch.no_grad():
        fused = fuse(maps)
        small = torch.from_numpy(slow_resize(maps[2].double().numpy(), (3, 3))).float()
        torch.testing.assert_close(fused, fuse({**maps, 2: small}), atol=1e-5, rtol=1e-4)
    assert fused.shape == (2, 48, 3, 3)


def test_fusion_normalises_each_image_by_itself() -> None:
    torch.manual_seed(3)
    counts = {2: 2, 3: 2, 4: 2}
    fuse = CorrelationFusion(counts)
    maps = {stage: torch.rand(2, n, 4, 4) for stage, n in counts.items()}
    together = fuse(maps)
    apart = torch.cat([fuse({s: m[b : b + 1] for s, m in maps.items()}) for b in range(2)])
    torch.testing.assert_close(together, apart)


def test_every_head_keeps_its_contract() -> None:
    torch.manual_seed(4)
    counts, grids = {2: 2, 3: 2, 4: 2}, dict.fromkeys(CHANNELS, (5, 5))
    query, support, masks = (
        _feature_maps(counts, grids, 2),
        _feature_maps(counts, grids, 4),
        torch.ones(2, 2, 1, 33, 33),
    )
    for head in (PooledCorrelation(counts), Conv4dCorrelation(counts)):
        assert isinstance(head, CorrelationHead)
        assert head.out_counts.keys() == counts.keys()
        kept = {i: [correlated(head, x, support[i][n], masks) for n, x in enumerate(maps)] for i, maps in query.items()}
        assert not any(x.requires_grad for each in kept.values() for x in each)
        for stage, maps in head.squeeze(kept).items():
            assert maps.isfinite().all() and maps.shape == (2, head.out_counts[stage], *grids[stage])
