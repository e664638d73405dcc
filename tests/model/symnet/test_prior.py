"""The self-activation prior equals the quadratic form of its definition, and the range of its values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from model.symnet.prior import SelfActivationPrior, object_directions
from tests.model.small import rectangle_mask, slow_resize

KERNELS = [(5, 5), (7, 1), (1, 7)]
EPS = 1e-7
TOLERANCE = 2e-5


def _slow_pool(x: np.ndarray, kernel: tuple[int, int]) -> np.ndarray:
    """Average (C, H, W) over a window; positions outside count as zeros."""
    height, width = x.shape[1:]
    reach = kernel[0] // 2, kernel[1] // 2
    out = np.zeros_like(x)
    for i in range(height):
        for j in range(width):
            window = x[:, max(i - reach[0], 0) : i + reach[0] + 1, max(j - reach[1], 0) : j + reach[1] + 1]
            out[:, i, j] = window.sum((1, 2)) / (kernel[0] * kernel[1])
    return out


def _slow_prior(query: np.ndarray, support: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the prior of one query (C, h, w) and one shot, from the full matrix of query-support similarities."""
    channels, height, width = query.shape
    support = support * slow_resize(mask, (height, width))
    total = np.zeros(height * width)
    for kernel in KERNELS:
        q, s = (_slow_pool(x, kernel).reshape(channels, -1) for x in (query, support))
        matrix = np.zeros((q.shape[1], s.shape[1]))
        for i in range(q.shape[1]):
            for j in range(s.shape[1]):
                length = np.linalg.norm(q[:, i])
                matrix[i, j] = q[:, i] @ s[:, j] / (length * np.linalg.norm(s[:, j]) + EPS) * length
        activation = matrix.mean(1)
        low, high = activation.min(), activation.max()
        total += (activation - low) / (high - low + EPS)
    return (total / len(KERNELS)).reshape(height, width)


def _random(signed: bool, *shape: int) -> Tensor:
    x = torch.randn(*shape)
    return x if signed else x.relu()


def _prior(query_bchw: Tensor, support_bkchw: Tensor, mask_bk1ss: Tensor) -> Tensor:
    shots = zip(support_bkchw.unbind(1), mask_bk1ss.unbind(1))
    return SelfActivationPrior()(query_bchw, torch.stack([object_directions(*shot) for shot in shots], dim=1))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("grid, image", [((6, 6), (41, 41)), ((5, 8), (30, 47)), ((8, 5), (57, 33))])
def test_prior_equals_the_quadratic_form(signed: bool, grid: tuple[int, int], image: tuple[int, int]) -> None:
    torch.manual_seed(1)
    query, support = _random(signed, 2, 5, *grid), _random(signed, 2, 2, 5, *grid)
    rows = [slice(3, 19), slice(10, 30), slice(0, 8), slice(20, 27)]
    columns = [slice(5, 30), slice(0, 12), slice(18, 26), slice(1, 33)]
    mask = torch.stack([rectangle_mask(*image, *where) for where in zip(rows, columns)]).unflatten(0, (2, 2))
    prior = _prior(query, support, mask)
    assert prior.shape == (2, 2, *grid)
    for b in range(2):
        for k in range(2):
            arrays = (x.double().numpy() for x in (query[b], support[b, k], mask[b, k]))
            np.testing.assert_allclose(prior[b, k].numpy(), _slow_prior(*arrays), atol=TOLERANCE)


def test_empty_mask_gives_zero_everywhere_and_leaves_other_shots_alone() -> None:
    torch.manual_seed(2)
    query, support = torch.rand(1, 4, 5, 5), torch.rand(1, 2, 4, 5, 5)
    full = rectangle_mask(33, 33, slice(0, 20), slice(0, 20))
    mask = torch.stack([torch.zeros_like(full), full])[None]
    prior = _prior(query, support, mask)
    assert (prior[0, 0] == 0).all()
    assert prior[0, 1].max() > 0.5


def test_values_span_zero_to_one() -> None:
    torch.manual_seed(3)
    mask = rectangle_mask(57, 57, slice(10, 40), slice(5, 50)).expand(3, 4, 1, 57, 57)
    prior = _prior(torch.randn(3, 6, 8, 8), torch.randn(3, 4, 6, 8, 8), mask)
    assert prior.shape == (3, 4, 8, 8)
    assert prior.min() >= 0
    assert prior.max() <= 1
    assert (prior.amax((2, 3)) > 0.5).all()


def test_positions_that_look_like_the_object_score_highest() -> None:
    query = torch.zeros(1, 2, 9, 9)
    query[:, 1] = 1
    query[:, :, 0:5, 0:5] = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    support = query.flip(2, 3)[None]
    prior = _prior(query, support, rectangle_mask(65, 65, slice(33, 65), slice(33, 65))[None, None])
    assert prior[0, 0, 2, 2] > 0.9
    assert prior[0, 0, 7, 7] < 0.2


def test_prior_does_not_depend_on_autocast() -> None:
    torch.manual_seed(4)
    inputs = torch.rand(1, 4, 6, 6), torch.rand(1, 1, 4, 6, 6), rectangle_mask(41, 41, slice(8, 30), slice(0, 41))
    inputs = (*inputs[:2], inputs[2][None, None])
    with torch.autocast("cpu", torch.bfloat16):
        low = _prior(*inputs)
    assert low.dtype == torch.float32
    assert torch.equal(low, _prior(*inputs))
