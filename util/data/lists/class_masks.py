"""Masks that show one class each: list files that name class and photo, and the table of their areas.

Where a data set has one mask per photo and class (``data.mask_form: binary``), a list has one line per mask: the mask's
name, its class id and its photo, such as ``melanoma/ISIC_0000030 1 ISIC_0000030.jpg``. The mask holds 0, 1 and, where
pixels are ignored, 255. Class ids never pass through a pixel, so a data set may have any number of classes, and classes
of one photo may overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from util.errors import UserError
from util.files import read_text

VALUE = 1  # of the class in its mask
COLUMNS = 3  # of a line


@dataclass(frozen=True)
class Entries:
    """The lines of a list: names of the masks, their class ids (1-based), and the names of their photos."""

    names: tuple[str, ...]
    class_ids: tuple[int, ...]
    photos: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return the lines as they are written."""
        rows = zip(self.names, self.class_ids, self.photos, strict=True)
        return [f"{name} {class_id} {photo}" for name, class_id, photo in rows]


class OneClassAreas:
    """The areas of masks of one class each, read like the table (images, classes + 1) int64 that they stand for.

    That table of LVIS would take gigabytes; this one has two columns. ``areas[row, c]``, ``areas[rows, c]``,
    ``areas[row, classes]``, ``areas[:, classes]`` and ``areas[rows]`` return what NumPy returns.

    Args:
        pixels: (images, 2) int64 pixels of the background and of the class.
        class_ids: (images,) int64 class of each mask.
        classes: of the data set.
    """

    def __init__(self, pixels: np.ndarray, class_ids: np.ndarray, classes: int):
        self.pixels, self.class_ids, self.shape = pixels, class_ids, (len(class_ids), classes + 1)

    def __getitem__(self, place: Any) -> Any:
        rows, columns = place if isinstance(place, tuple) else (place, slice(None))
        classes = np.arange(self.shape[1])[columns if isinstance(columns, slice) else np.asarray(columns, np.int64)]
        ids, pixels = self.class_ids[rows], self.pixels[rows]
        if ids.ndim and classes.ndim:  # every row with every class
            ids, pixels = ids[:, None], pixels[:, None]
        of_class = np.where(ids == classes, pixels[..., VALUE], 0)
        return np.where(classes == 0, pixels[..., 0], of_class)


def read_entries(path: Path, classes: int) -> Entries:
    """Return the lines of a list of masks of one class each.

    Raises:
        UserError: the file is missing or empty, or a line is no mask, class and photo; the message names the line.
    """
    lines = read_text(path, "this list", "set data.train_list / data.test_list").splitlines()
    rows: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        if len(words) != COLUMNS or not words[1].isdecimal() or any(_leads_out(word) for word in (words[0], words[2])):
            raise UserError(f"{path}:{number}: {line[:80]!r} is no mask, class id and photo; correct the line")
        name, class_id, photo = words[0], int(words[1]), words[2]
        rows[name] = class_id, photo
    return Entries(tuple(rows), tuple(c for c, _ in rows.values()), tuple(photo for _, photo in rows.values()))


def _leads_out(name: str) -> bool:
    return not name.isprintable() or name.startswith("/") or ".." in name.split("/")
