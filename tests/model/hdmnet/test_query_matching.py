"""HDMNet's teacher of the coarsest map: cells of the object, and what stands in for them where there is none."""

import pytest
import torch

from model.hdmnet.transformer import true_distribution


@pytest.mark.parametrize(
    ("box", "even", "cells"),  # (top, bottom, left, right) in an image of 4 x 4 cells of 8 pixels
    [
        ((8, 24, 0, 16), False, [4, 5, 8, 9]),
        ((8, 24, 0, 16), True, [4, 5, 8, 9]),
        ((12, 13, 3, 6), False, [4]),  # half of the pixels that cell 4 reads
        ((12, 13, 3, 6), True, list(range(16))),
        ((0, 0, 0, 0), False, list(range(16))),
    ],
)
def test_the_cells_that_see_most_of_the_object_share_the_teacher(box: tuple, even: bool, cells: list[int]) -> None:
    label = torch.zeros(1, 32, 32, dtype=torch.uint8)
    top, bottom, left, right = box
    label[:, top:bottom, left:right] = 1
    found = true_distribution(label, (4, 4), even)[0]
    assert found.nonzero()[:, 0].tolist() == cells and found[cells].tolist() == pytest.approx(
        [1 / len(cells)] * len(cells)
    )
