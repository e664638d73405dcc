"""DCAMA's decoder: the convolution of a resized map runs on the small map."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from model.common.ops import resize
from model.dcama.decoder import convolve_resized


@pytest.mark.parametrize("size", [(7, 9), (4, 4)])
def test_a_convolution_of_a_resized_map_runs_on_the_small_map(size: tuple[int, int]) -> None:
    torch.manual_seed(3)
    x, weight = torch.randn(2, 5, 4, 4), torch.randn(3, 5, 3, 3)
    torch.testing.assert_close(
        convolve_resized(x, weight, size), F.conv2d(resize(x, size), weight, padding=1), atol=1e-4, rtol=1e-4
    )
