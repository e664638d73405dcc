"""Lists without files behind them, for the tests of sampling."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from util.data.lists.image_list import ImageList
from util.data.lists.index import Index


def random_list(seed: int) -> ImageList:
    """Return a list over an index of random areas, no file behind it: 40 images of five classes."""
    random = np.random.default_rng(seed)
    areas = random.integers(0, 100, (40, 6)) * (random.random((40, 6)) < 0.4)
    areas[:, 1] += 10  # every image has class 1
    names = tuple(f"photo{n}" for n in range(40))
    index = Index(names, areas, (Path(),) * 40, (Path(),) * 40, "none")
    classes = (1, 2, 4)
    present = areas[:, list(classes)] >= 10
    candidates = {c: np.flatnonzero(present[:, i]) for i, c in enumerate(classes)}
    return ImageList(index, classes, np.flatnonzero(present.any(1)), candidates)


def golden_list() -> ImageList:
    """Return a list whose areas come from a formula, so that it is the same everywhere and for ever."""
    areas = np.array([[0, *(7 * n * c % 11 * 10 for c in (1, 2, 3))] for n in range(1, 21)], np.int64)
    names = tuple(f"photo{n}" for n in range(20))
    index = Index(names, areas, (Path(),) * 20, (Path(),) * 20, "none")
    candidates = {c: np.flatnonzero(areas[:, c] >= 30) for c in (1, 2, 3)}
    return ImageList(index, (1, 2, 3), np.flatnonzero((areas[:, 1:] >= 30).any(1)), candidates)
