"""Windows hold every object, have one size for all maps, and put back what they cut out; all shots are as each."""

import pytest
import torch

from model.common.fixed_shapes import Objects, shot_objects


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("before", [0, 2])
def test_a_window_holds_the_object_and_its_margin(stride: int, before: int) -> None:
    torch.manual_seed(0)
    height, width, after = 11, 9, 1
    mask = torch.zeros(4, 1, height, width)
    for i, (top, bottom, left, right) in enumerate([(0, 3, 6, 9), (5, 6, 2, 8), (9, 11, 0, 1)]):
        mask[i, 0, top:bottom, left:right] = torch.rand(bottom - top, right - left) + 0.1  # the fourth stays empty
    window, x = Objects(mask).on((height, width)).window(before, after, stride), torch.randn(4, 3, height, width)
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


def test_no_object_gives_the_smallest_window() -> None:
    window = Objects(torch.zeros(2, 1, 5, 5)).on((5, 5)).window(1, 1, 2)
    assert (window.corners, window.rows, window.columns) == ([(0, 0), (0, 0)], 1, 1)
    assert (window.place(torch.zeros(2, 1, 1, 1), torch.ones(1), (5, 5)).sum((1, 2, 3)) == 8).all()


def test_the_objects_of_all_shots_and_grids_are_those_of_each() -> None:
    mask = torch.zeros(2, 3, 1, 33, 33)
    for i, shot in enumerate(mask.flatten(0, 1)[:-1]):  # the last is empty
        shot[:, 3 + 2 * i : 12 + 3 * i, 5 : 9 + 4 * i] = 1
    together = shot_objects(mask, inside=lambda m: m[:, 0] > 0.5)
    for k, objects in enumerate(together):
        [alone] = shot_objects(mask[:, k : k + 1], inside=lambda m: m[:, 0] > 0.5)
        for size in ((9, 9), (5, 5)):
            one, other = objects.on(size), alone.on(size)
            assert one.window(1, 2, 2) == other.window(1, 2, 2)
            x = torch.randn(2, size[0] * size[1], 4)
            rows, inside = one.chosen["inside"].rows(x), one.mask[:, 0].flatten(1) > 0.5
            assert all(torch.equal(row, own[where]) for row, own, where in zip(rows, x, inside))
            assert torch.equal(torch.cat(rows), x.flatten(0, 1)[one.chosen["inside"].flat])
