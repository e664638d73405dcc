"""Read outlined objects from a JSON file: labelme's format (one photo) or COCO's (many), both painted by one rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from util.data.coco_masks import Annotations, Instance, Photo, class_mask, read_annotations
from util.errors import UserError, nearest
from util.read_files import parse_json, read_text

LABELME, COCO = '"shapes"', '"annotations"'  # the keys that identify the two formats
MAX_BYTES = 2**30
CIRCLE_CORNERS = 360  # of the polygon that stands for labelme's circle
LABEL = 1  # of the object in the mask
MAX_SHOWN = 20  # characters of a number in a message


def read_outlines(path: Path, photo: Path, shape: tuple[int, int], name: str | None) -> np.ndarray:
    """Return the label of the objects that a JSON file outlines on a photo, (H, W) uint8: 1 object, 255 crowd region.

    Objects whose label equals the class name are used; if all objects have one other label, all are used.

    Args:
        photo: identifies the image in COCO's format by its file name.
        shape: (height, width) of the upright photo.
        name: the class.

    Raises:
        UserError: the file is unreadable, has neither format, lacks the photo, or has several labels, none of which
            is the class name.
    """
    text = read_text(path, "these outlines", "check the file's name", MAX_BYTES)
    if COCO in text:
        return _from_coco(read_annotations(path), path, photo.name, shape, name)
    if LABELME not in text:
        raise UserError(f"{path}: holds neither labelme's 'shapes' nor COCO's 'annotations'; export one of them")
    try:
        content = parse_json(text)
        objects = [_labelme_object(entry) for entry in _shapes(content)]
    except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise UserError(f"{path}: not in labelme's form ({error or type(error).__name__}); export it again") from None
    _check_size((content.get("imageHeight"), content.get("imageWidth")), shape, path)
    chosen = pick_label({label for label, _ in objects}, name, path)
    height, width = shape
    annotated = Photo(0, str(path), height, width, tuple(instance for label, instance in objects if label == chosen))
    return class_mask(annotated, {LABEL: LABEL})


def pick_label(labels: set[str], name: str | None, path: Path) -> str:
    """Return the label of the objects to use: the class name, ignoring case, else the only label of the file.

    Raises:
        UserError: there is no label, or there are several and none is the class name.
    """
    if not labels:
        raise UserError(f"{path}: outlines nothing on this photo; mark the object")
    for label in sorted(labels):
        if name is not None and label.lower() == name.lower():
            return label
    if len(labels) > 1:
        hint = nearest(name, labels) if name else f"; choose one of {', '.join(sorted(labels))} with --name"
        raise UserError(f"{path}: outlines several things, and none has the label '{name or ''}'{hint}")
    return next(iter(labels))


def _from_coco(
    annotations: Annotations, path: Path, photo: str, shape: tuple[int, int], name: str | None
) -> np.ndarray:
    """Return the label of the objects of one image, which is identified by its file name."""
    named = [p for p in annotations.photos if Path(p.name).name == photo]
    if not named:
        raise UserError(f"{path}: lists no image '{photo}'; name the photo as the file does")
    if len(named) > 1:
        raise UserError(f"{path}: lists {named[0].name} and {named[1].name}, both named {photo}; rename one of them")
    found = named[0]
    _check_size((found.height, found.width), shape, path)
    names = annotations.categories
    label = pick_label({names[i.category] for i in found.instances}, name, path)
    return class_mask(found, {category: LABEL for category, known in names.items() if known == label})


def _check_size(stated: tuple[Any, Any], shape: tuple[int, int], path: Path) -> None:
    """Refuse outlines that were drawn on a photo of another size; a file may state none.

    Raises:
        UserError: the sizes (height, width) differ.
    """
    if any(side is not None and side != own for side, own in zip(stated, shape, strict=True)):
        height, width = (str(side)[:MAX_SHOWN] for side in stated)
        raise UserError(
            f"{path}: is of a photo of {width} x {height} pixels, this one has {shape[1]} x {shape[0]}; "
            "they must be equal"
        )


def _shapes(content: Any) -> list[dict[str, Any]]:
    """Return the entries of labelme's ``shapes``.

    Raises:
        ValueError: it is no list of objects.
    """
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(entry, dict) for entry in shapes):
        raise ValueError("'shapes' must be a list of objects")
    return shapes


def _labelme_object(entry: dict[str, Any]) -> tuple[str, Instance]:
    """Return the label and the outline, as a polygon, of one entry of labelme's ``shapes``.

    Raises:
        ValueError: its points are not pairs of finite numbers, or its type has no area.
    """
    kind = entry.get("shape_type", "polygon")
    points = np.array(entry["points"], np.float64)
    if not all(type(number) in (int, float) for point in entry["points"] for number in point):
        raise ValueError("a shape's points must be pairs of numbers")
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
