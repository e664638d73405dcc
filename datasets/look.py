"""A picture of a data set as it was read: some photos with their masks and the names of the classes in them."""

from pathlib import Path

import cv2
import numpy as np

from util.data.lists.index import Index
from util.files.mask_images import VALUE
from util.files.overlay import IGNORED_COLOUR, at_panel_size, class_colour, class_map, overlay, write_picture
from util.files.palette import IGNORE

PHOTOS = 16
COLUMNS = 4
WIDTH = 300  # pixels of a photo with its names
LINE = 18  # pixels of a name's height
ROOM = 4  # lines of names
FONT = cv2.FONT_HERSHEY_SIMPLEX


def write_look(path: Path, index: Index, classes: list[str]) -> None:
    """Write a picture of photos of an index, each class on one at least where there are not too many classes."""
    panels = [_panel(index, row, classes) for row in _rows_to_show(index, len(classes))]
    panels += [np.full_like(panels[0], 255)] * (-len(panels) % COLUMNS)
    rows = [np.hstack(panels[first : first + COLUMNS]) for first in range(0, len(panels), COLUMNS)]
    write_picture(path, np.vstack(rows))


def _rows_to_show(index: Index, classes: int) -> list[int]:
    """Return rows of an index: the first that shows each class, then some from all of it."""
    shown = [index.areas[:, class_id] for class_id in range(1, classes + 1)]
    firsts = [int(np.flatnonzero(pixels)[0]) for pixels in shown if pixels.any()]
    spread = np.linspace(0, len(index) - 1, PHOTOS).round().astype(int).tolist()
    return sorted([*dict.fromkeys(firsts + spread)][:PHOTOS])


def _panel(index: Index, row: int, classes: list[str]) -> np.ndarray:
    """Return a photo with its mask, and the names of the classes in their colours below it, (H, W, 3) uint8."""
    image, ids = map(at_panel_size, index.pair(row))
    shown = [class_id for class_id in range(1, len(classes) + 1) if index.areas[row, class_id]]
    if index.one_class_masks and not index.joined and shown:
        ids = np.where(ids == VALUE, shown[0], ids).astype(np.uint8)
    picture = class_map(image, ids)
    picture = overlay(picture, np.where(ids == IGNORE, IGNORE, 0), IGNORED_COLOUR)
    panel = np.full((picture.shape[0] + ROOM * LINE, WIDTH, 3), 255, np.uint8)
    height, width = picture.shape[0], min(picture.shape[1], WIDTH)
    panel[:height, :width] = picture[:, :width]
    for place, class_id in enumerate(shown[:ROOM], 1):
        name = f"{class_id} {classes[class_id - 1]}"
        cv2.putText(panel, name, (4, height + place * LINE - 4), FONT, 0.5, class_colour(class_id), 1, cv2.LINE_AA)
    return panel
