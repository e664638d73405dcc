"""HSNet's correlation equals the measured and the slow one, and its window gives what the whole support gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from model.common.conv4d import CentrePivotConv4d
from model.common.ops import resize
from model.common.with_encoder import LOW, MID
from model.hsnet.correlation import NORM_EPS, Correlation, masked_unit, unit
from model.hsnet.squeeze import Squeeze
from tests.model.small import rectangle_mask, slow_correlation, slow_resize

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def _correlation(query: Tensor, support: Tensor, mask_b1hw: Tensor) -> Tensor:
    """Return (B, h, w, h, w), the query's dimensions first, by the model's functions."""
    whole = Correlation()(unit(query), masked_unit(support, resize(mask_b1hw, support.shape[-2:])))
    return whole[:, 0].permute(0, 3, 4, 1, 2)


def test_correlation_of_made_up_features_is_the_measured_one(shared: Path) -> None:
    with np.load(shared / "parity/hsnet/correlation.npz") as stored:
        case = {name: torch.from_numpy(stored[name]) for name in stored}
    given = _correlation(case["query_tap"], case["support_tap"], case["mask"].float().unsqueeze(1))
    torch.testing.assert_close(given, case["corr"], atol=1e-6, rtol=1e-5)
    assert (case["corr"] == 0).any()


def test_a_position_in_part_on_the_object_counts_in_full() -> None:
    torch.manual_seed(0)
    query, support = torch.randn(1, 4, 3, 3), torch.randn(1, 4, 3, 3)
    mask = rectangle_mask(20, 20, slice(0, 10), slice(5, 20))[None]
    small = slow_resize(mask[0].numpy(), (3, 3))[0]
    assert ((small > 0) & (small < 1)).any()
    slow = slow_correlation(query[0].double().numpy(), support[0].double().numpy(), NORM_EPS) * (small > 0)
    np.testing.assert_allclose(_correlation(query, support, mask)[0].numpy(), slow, atol=1e-4)


@pytest.mark.parametrize("level", [LOW, MID])
@pytest.mark.parametrize("train", [False, True])
def test_the_window_around_the_object_gives_what_the_whole_support_gives(level: int, train: bool) -> None:
    torch.manual_seed(0)
    squeeze, side = Squeeze(level, 2), 14
    query, support = ([torch.randn(3, 4, side, side) for _ in range(2)] for _ in range(2))
    places = [(0, 5, 40, 60), (33, 40, 20, 90), (0, 0, 0, 0)]  # the last is empty
    mask = torch.stack([rectangle_mask(112, 112, slice(a, b), slice(c, d)) for a, b, c, d in places])
    query = [unit(q) for q in query]
    small = resize(mask, (side, side))
    whole = torch.cat([Correlation()(q, masked_unit(s, small)) for q, s in zip(query, support)], dim=1)
    first, *rest = squeeze.blocks
    assert isinstance(first, CentrePivotConv4d)
    found = []
    with torch.set_grad_enabled(train):
        want = first(whole)
        for layer in rest:
            want = layer(want)
        for out in (want, squeeze(query, support, mask)):
            gradients = torch.autograd.grad(out.square().mean(), list(squeeze.parameters())) if train else ()
            found.append((out, *gradients))
    for given, expected in zip(*reversed(found), strict=True):
        torch.testing.assert_close(given, expected, **CLOSE)
