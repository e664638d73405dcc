"""Read outlined objects from a file of annotations for one photo, whatever its format."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from util.errors import UserError, nearest
from util.files import read_text
from util.formats import labelme, recognise
from util.formats.annotations import Annotations, Collector
from util.formats.painting import class_mask, label_of

SUFFIX = ".json"
LABEL = 1  # of the object in the mask
WORD, MEND = "these outlines", "check the file's name"


def read_outlines(path: Path, photo: Path, shape: tuple[int, int], name: str | None) -> np.ndarray:
    """Return the label of the objects that a file outlines on a photo, (H, W) uint8: 1 object, 255 crowd region.

    Objects whose label equals the class name are used; if all objects have one other label, all are used. A file of
    labelme is of one photo, whatever its name; in the others the file name of the photo identifies it.

    Args:
        shape: (height, width) of the upright photo.
        name: the class.

    Raises:
        UserError: the file is unreadable, in no known format, lacks the photo, or has several labels, none of which
            is the class name.
    """
    content = read_text(path, WORD, MEND).encode()
    if not recognise.COCO_KEY.search(content):
        if recognise.LABELME_WORD not in content:
            raise UserError(f"{path}: holds neither labelme's 'shapes' nor COCO's 'annotations'; export one of them")
        entry, collector = labelme.read_content(path), Collector()
        stated = labelme.stated_size(entry, path)
        if stated not in (None, shape):
            raise UserError(
                f"{path}: is of a photo of {stated[1]} x {stated[0]} pixels, this one has {shape[1]} x {shape[0]}; "
                "they must be equal"
            )
        collector.add(str(path), shape, labelme.objects_in(entry, path, shape))
        return class_mask(collector.photos[0], _table(collector.annotations(path.parent), 0, path, name))
    annotations = recognise.read(str(path), photo.parent)[1]
    places = [i for i, p in enumerate(annotations.photos) if Path(p.name).name == photo.name]
    if not places:
        raise UserError(f"{path}: lists no image '{photo.name}'; name the photo as the file does")
    if len(places) > 1:
        first, second = (annotations.photos[i].name for i in places[:2])
        raise UserError(f"{path}: lists {first} and {second}, both named {photo.name}; rename one of them")
    return label_of(annotations.photos[places[0]], photo, _table(annotations, places[0], path, name), path)


def _table(annotations: Annotations, place: int, path: Path, name: str | None) -> dict[int, int]:
    """Return the categories of the objects to use on a photo, each with ``LABEL``."""
    names = annotations.categories
    label = pick_label({names[i.category] for i in annotations.photos[place].instances}, name, path)
    return {category: LABEL for category, known in names.items() if known == label}


def pick_label(labels: set[str], name: str | None, path: Path) -> str:
    """Return the label of the objects to use: the class name, ignoring case, else the only label of the file.

    Raises:
        UserError: there is no label, or there are several and none is the class name.
    """
    for label in sorted(labels):
        if name is not None and label.lower() == name.lower():
            return label
    if len(labels) > 1:
        hint = nearest(name, labels) if name else f"; choose one of {', '.join(sorted(labels))} with --name"
        raise UserError(f"{path}: outlines several things, and none has the label '{name or ''}'{hint}")
    return next(iter(labels))
