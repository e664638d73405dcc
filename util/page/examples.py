"""Example photos for a first visit, drawn by the generator of the built-in data set."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from PIL import Image

from util.data.mini import JPEG_QUALITY
from util.data.mini_drawing import CLASS_NAMES, draw_image
from util.page.visit import Visit

SEED, SIDE = 0, 384  # of the drawings, side in pixels
CLASSES = (1, 2)  # striped disc, dotted star
SUPPORTS = {1: 808, 2: 814}  # class -> number of the drawing that shows it
TO_MARK = 824  # a drawing that the visitor may mark
QUERIES = (819, 826, 823, 825)


@functools.cache
def drawn(number: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a drawing, RGB (h, w, 3) uint8, and its class indices (h, w) uint8."""
    return draw_image(SEED, number, side)


def load_example(visit: Visit) -> None:
    """Fill a visit with two classes, a support of each, a photo to mark, and photos to segment.

    Raises:
        UserError: the photos cannot be written.
    """
    visit.clear()
    visit.classes = [CLASS_NAMES[number - 1] for number in CLASSES]
    for number, name in zip(CLASSES, visit.classes, strict=True):
        image, mask = drawn(SUPPORTS[number], SIDE)
        visit.keep(name, image, (mask == number).astype(np.uint8), f"example_{SUPPORTS[number]}")
    visit.add_queries([_file(visit, number) for number in QUERIES])


def open_example(visit: Visit) -> None:
    """Open an example photo to mark."""
    visit.open_photo(_file(visit, TO_MARK))


def _file(visit: Visit, number: int) -> Path:
    """Return a drawing as a JPEG file in the folder of a visit."""
    path = visit.folder / f"example_{number}.jpg"
    if not path.exists():
        Image.fromarray(drawn(number, SIDE)[0]).save(path, quality=JPEG_QUALITY)
    return path
