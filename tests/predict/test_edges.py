"""Edges of masks move to those of the photo, and nowhere else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from util.predict.edges import refined
from util.predict.tiles import TiledPhoto


@pytest.mark.parametrize("tile", [None, 150])
def test_edges_move_to_those_of_the_photo(tile: int | None) -> None:
    true = np.zeros((2, 130, 200), bool)
    true[0, 30:100, 25:90], true[1, 45:110, 115:175] = True, True
    image = np.full((*true.shape[1:], 3), 120, np.uint8)
    image[true[0]], image[true[1]] = (200, 60, 60), (60, 60, 200)
    image += np.random.default_rng(0).integers(0, 6, image.shape, np.uint8)
    blurred = [cv2.GaussianBlur(np.roll(one, 4, 1).astype(np.float32), (0, 0), 6) for one in true]
    margins = 8 * np.stack(blurred) - 4
    photo = TiledPhoto(image, 2, tile)
    for rows, columns in photo.windows:
        photo.add((rows, columns), list(margins[:, rows, columns]))
    wrong = [((margins > 0) != true).sum(), ((photo.refine() > 0) != true).sum()]
    assert len(photo.windows) == (1 if tile is None else 2) and wrong[1] < wrong[0] / 4
    assert np.isfinite(photo.blended()).all() and not photo.missing


def test_without_edges_or_mask_nothing_moves() -> None:
    image, margins = np.zeros((9, 30, 3), np.uint8), np.full((2, 9, 30), -1, np.float32)
    margins[1] = 2
    assert np.allclose(refined(image, margins), margins, atol=1e-4)
