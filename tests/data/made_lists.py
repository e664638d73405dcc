"""Lists over class areas that a test gives, without files behind them."""

from pathlib import Path

import numpy as np

from util.data.lists.image_list import ImageList
from util.data.lists.index import Index


def list_of(areas: np.ndarray, classes: tuple[int, ...], pixels: int = 10) -> ImageList:
    """Return a list over given areas (images, classes + 1); a class is present from so many pixels on."""
    names = tuple(f"photo{number}" for number in range(len(areas)))
    paths = (Path(),) * len(areas)
    present = areas[:, list(classes)] >= pixels
    candidates = {c: np.flatnonzero(present[:, column]) for column, c in enumerate(classes)}
    return ImageList(Index(names, areas, paths, paths, "none"), classes, np.flatnonzero(present.any(1)), candidates)


def random_list(seed: int) -> ImageList:
    """Return a list of 40 images of five classes, three of which count; every image has class 1."""
    random = np.random.default_rng(seed)
    areas = random.integers(0, 100, (40, 6)) * (random.random((40, 6)) < 0.4)
    areas[:, 1] += 10
    return list_of(areas, (1, 2, 4))


def golden_list() -> ImageList:
    """Return a list of 20 images whose areas come from a formula, so that it is the same everywhere and for ever."""
    areas = np.zeros((20, 4), np.int64)
    for row in range(20):
        for class_id in (1, 2, 3):
            areas[row, class_id] = 7 * (row + 1) * class_id % 11 * 10
    return list_of(areas, (1, 2, 3), 30)
