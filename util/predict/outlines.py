"""Objects outlined in a JSON file: labelme's, of one photo, or COCO's, of many, drawn by one rule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from util.data.coco_masks import Annotations, Instance, Photo, class_mask, read_annotations
from util.errors import UserError, nearest

LABELME, COCO = '"shapes"', '"annotations"'  # the keys that tell the two forms apart
MAX_BYTES = 2**30
CIRCLE_CORNERS = 360
LABEL = 1


def read_outlines(path: Path, photo: Path, shape: tuple[int, int], name: str | None) -> np.ndarray:
    """Return what a JSON file outlines on a photo, (H, W) uint8: 1 on objects, 255 in crowd regions.

    The objects of the class are taken; a file whose objects all have one other label has those taken.

    Raises:
        UserError: it cannot be read, holds neither form, lacks the photo, or labels several other things.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path}: more than {MAX_BYTES} bytes; export this photo's annotations alone")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: these outlines cannot be read ({reason}); check the file's name") from None
    if COCO in text:
        return _from_coco(read_annotations(path), path, photo.name, shape, name)
    if LABELME not in text:
        raise UserError(f"{path}: holds neither labelme's 'shapes' nor COCO's 'annotations'; export one of them")
    try:
        shapes = [_instance(entry) for entry in json.loads(text)["shapes"]]
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise UserError(f"{path}: not in labelme's form ({error or type(error).__name__}); export it again") from None
    chosen = pick({label for label, _ in shapes}, name, path)
    height, width = shape
    picture = Photo(0, str(path), height, width, tuple(i for label, i in shapes if label == chosen))
    return class_mask(picture, {LABEL: LABEL})


def pick(labels: set[str], name: str | None, path: Path) -> str:
    """Return the label whose objects are meant: the class's, else the only one.

    Raises:
        UserError: there is none, or several of which none is the class's.
    """
    if not labels:
        raise UserError(f"{path}: outlines nothing on this photo; mark the object")
    for label in sorted(labels):
        if name is not None and label.lower() == name.lower():
            return label
    if len(labels) > 1:
        hint = nearest(name or "", labels) if name else f"; name one of {', '.join(sorted(labels))} with --name"
        raise UserError(f"{path}: outlines several things, and none is called '{name or ''}'{hint}")
    return next(iter(labels))


def _from_coco(
    annotations: Annotations, path: Path, photo: str, shape: tuple[int, int], name: str | None
) -> np.ndarray:
    """Return what COCO's form outlines on the photo of that file name."""
    found = next((p for p in annotations.photos if Path(p.name).name == photo), None)
    if found is None:
        raise UserError(f"{path}: knows no image '{photo}'; name the photo as the file does")
    if (found.height, found.width) != tuple(shape):
        raise UserError(
            f"{path}: is of a photo of {found.width} x {found.height} pixels, this one has {shape[1]} x {shape[0]}; "
            "they must be equal"
        )
    names = annotations.categories
    label = pick({names[i.category] for i in found.instances}, name, path)
    return class_mask(found, {c: LABEL for c, called in names.items() if called == label})


def _instance(entry: dict[str, Any]) -> tuple[str, Instance]:
    """Return one of labelme's shapes: its label, and its outline as a polygon."""
    kind = entry.get("shape_type", "polygon")
    points = np.array(entry["points"], np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise ValueError("a shape's points must be pairs of numbers")
    if kind == "rectangle":
        (left, top), (right, bottom) = points.min(0), points.max(0)
        points = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    elif kind == "circle":
        centre, radius = points[0], np.linalg.norm(points[1] - points[0])
        angle = np.linspace(0, 2 * np.pi, CIRCLE_CORNERS, endpoint=False)
        points = centre + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    elif kind != "polygon":
        raise ValueError(f"a shape of type '{kind}' has no area; use polygon, rectangle or circle")
    return str(entry["label"]), Instance(0, LABEL, False, (points.reshape(-1),))
