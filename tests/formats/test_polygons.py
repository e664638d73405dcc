"""Tests of polygons that pycocotools would not survive: clipped to the photo, bounded in length, else unchanged."""

from __future__ import annotations

import numpy as np
from pycocotools import mask as rle

from util.formats.painting import prepared

H, W = 48, 64


def _raster(polygons: list[np.ndarray]) -> np.ndarray:
    if not polygons:
        return np.zeros((H, W), bool)
    return rle.decode(rle.merge(rle.frPyObjects(polygons, H, W))).astype(bool)


def test_a_polygon_of_the_photo_is_passed_on_unchanged() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        polygon = random.uniform(-20, 80, 2 * random.integers(3, 12))
        (given,) = prepared((polygon,), H, W)
        assert given is polygon


def test_clipping_leaves_the_pixels_of_the_photo() -> None:
    random = np.random.default_rng(1)
    for _ in range(50):
        polygon = random.uniform(-400, 400, 2 * random.integers(3, 9))
        clipped = prepared((polygon,), H, W)
        assert all((np.abs(p) <= 2 * max(H, W)).all() for p in clipped)
        assert (_raster(clipped) != _raster([polygon])).mean() < 0.02  # crossings are rounded
