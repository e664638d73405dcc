"""Windows hold every object, have one size for all maps, and put back what they cut out."""

import pytest
import torch

from model.tensors.windows import spans_of, window_around


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("before", [0, 2])
def test_a_window_holds_the_object_and_its_margin(stride: int, before: int) -> None:
    torch.manual_seed(0)
    height, width, after = 11, 9, 1
    mask = torch.zeros(4, 1, height, width)
    for i, (top, bottom, left, right) in enumerate([(0, 3, 6, 9), (5, 6, 2, 8), (9, 11, 0, 1)]):
        mask[i, 0, top:bottom, left:right] = torch.rand(bottom - top, right - left) + 0.1  # the fourth stays empty
    window = window_around(spans_of(mask).tolist(), (height, width), before, after, stride)
    x = torch.randn(4, 3, height, width)
    assert window.crop(x).shape[-2:] == (window.rows * stride, window.columns * stride)
    for i, (top, left) in enumerate(window.corners):
        rows = torch.arange(top * stride, (top + window.rows) * stride)
        columns = torch.arange(left * stride, (left + window.columns) * stride)
        for y, z in mask[i, 0].nonzero().tolist():
            near_rows, near_columns = (
                range(max(p - before, 0), min(p + after, side - 1) + 1) for p, side in ((y, height), (z, width))
            )
            assert set(near_rows) <= set(rows.tolist()) and set(near_columns) <= set(columns.tolist())
    placed = window.place(window.crop(x * mask)[:, :, ::stride, ::stride], torch.full((3,), 7.0), (height, width))
    whole = (x * mask)[:, :, ::stride, ::stride]
    assert placed.shape == whole.shape
    assert ((placed == whole) | ((placed == 7) & (whole == 0))).all()
