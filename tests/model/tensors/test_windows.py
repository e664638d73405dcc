"""Windows hold every object, have one size for all maps, and put back what they cut out."""

import pytest
import torch
from torch.nn import functional as F

from model.tensors.windows import spans_of, window_around


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("before", [0, 2])
def test_a_window_holds_the_object_and_its_margin(stride: int, before: int) -> None:
    torch.manual_seed(0)
    height, width, after = 11, 9, 1
    mask = torch.zeros(4, 1, height, width)
    for i, (top, bottom, left, right) in enumerate([(0, 3, 6, 9), (5, 6, 2, 8), (9, 11, 0, 1)]):
        mask[i, 0, top:bottom, left:right] = 0.1  # the fourth stays empty
    window = window_around(spans_of(mask).tolist(), (height, width), before, after, stride)
    needed = F.max_pool2d(F.pad(mask, (after, before, after, before)), before + 1 + after, stride=1).ceil()
    held = window.crop(needed)
    assert held.shape[2:] == (window.rows * stride, window.columns * stride)
    assert held.sum() == needed.sum()
    x = torch.randn(4, 3, height, width) * mask
    cut = window.crop(x)[:, :, ::stride, ::stride]
    whole = x[:, :, ::stride, ::stride]
    placed = window.place(cut, torch.full((3,), 7.0), (height, width))
    assert placed.shape == whole.shape
    assert torch.equal(placed.where(placed != 7, 0), whole)
