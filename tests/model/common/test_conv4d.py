"""The centre-pivot convolution equals a 4D convolution, forward and backward, whole or channel by channel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.common.conv4d import CentrePivotConv4d

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
GRIDS = [(4, 3, 3, 1), (4, 4, 3, 2), (5, 5, 3, 2), (9, 6, 5, 4), (2, 2, 3, 1)]  # R, R', k, stride


def _slow_convolution(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """Return (O, r, r', h, w): the 4D convolution of (C, R, R', h, w) by a whole kernel (O, C, k, k, k, k)."""
    side = kernel.shape[-1]
    padded = np.pad(x, [(0, 0)] + [(side // 2, side // 2)] * 4)
    rows, columns, height, width = x.shape[1:]
    out = np.zeros((len(kernel), -(-rows // stride), -(-columns // stride), height, width))
    for k, n, i, j in np.ndindex(out.shape[1:]):
        a, b = k * stride, n * stride
        patch = padded[:, a : a + side, b : b + side, i : i + side, j : j + side]
        out[:, k, n, i, j] = np.einsum("ocpqrs,cpqrs->o", kernel, patch)
    return out


@pytest.mark.parametrize(("rows", "columns", "kernel", "stride"), GRIDS)
def test_it_equals_a_4d_convolution_whose_other_taps_are_zero(
    rows: int, columns: int, kernel: int, stride: int
) -> None:
    torch.manual_seed(0)
    convolve, x = CentrePivotConv4d(3, 2, kernel, stride, bias=True), torch.randn(2, 3, rows, columns, 4, 3)
    whole, middle = np.zeros((2, 3, *[kernel] * 4)), kernel // 2
    whole[:, :, middle, middle] += convolve.over_query.weight.detach().numpy()
    whole[:, :, :, :, middle, middle] += convolve.over_support.weight.detach().numpy()
    slow = np.stack([_slow_convolution(item.double().numpy(), whole, stride) for item in x])
    slow += (convolve.over_query.bias + convolve.over_support.bias).detach().numpy()[:, None, None, None, None]
    np.testing.assert_allclose(convolve(x).detach().numpy(), slow, atol=1e-5)
    parts = [convolve.convolve(x[:, c : c + 1], slice(c, c + 1)) for c in range(3)]
    torch.testing.assert_close(convolve.with_bias(sum(parts)), convolve(x), **CLOSE)
