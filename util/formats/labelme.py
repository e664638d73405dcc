"""LabelMe's JSON format, which X-AnyLabeling shares, one file for each photo: it is read, and predictions written."""

import json
import os
from collections import defaultdict
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from util.data.images.read import header_of, upright_size
from util.files import files_below, read_text
from util.formats.annotations import (
    AnnotatedPhoto,
    Annotations,
    Found,
    Instance,
    PhotoFiles,
    Shape,
    in_words,
    pixels_of,
)
from util.formats.remarks import BACKGROUND, COVERED, HOLE, NO_JSON_FILE, OTHER_SHAPE, Remarks
from util.formats.shapes import corners_of, ellipse_of, encoded, region_in
from util.progress import ProgressBar

SUFFIX = ".json"
POLYGON = "polygon"
BOXES = ("rectangle", "rotation", "oriented_rectangle")  # the object is somewhere in them
WHOLE = 0.9  # of a photo, more than which a hole does not cover
EXPECTED = 'it must have "points", [[x, y], ...], "label" and "shape_type"'
VERSION = "5.5.0"  # of labelme, whose keys are written


def read_annotations(path: Path, folder: Path | None = None, photo: Path | None = None) -> Annotations:
    """Return the annotations of a file, or of all JSON files in a folder and its sub-folders.

    Shapes without area, such as stray points and lines, and those of unknown kinds are left out and counted. Regions of
    background are holes in what lies below them. The photos are found by name in ``folder``, default the place that
    each file states, or its own; that of a single file may be given. UserError: a file is unreadable or in another
    format, or its photo is missing; the message names the file.
    """
    files = files_below(path, SUFFIX) if path.is_dir() else [path]
    root = folder or (path if path.is_dir() else path.parent)
    photo_files, ids = cache(PhotoFiles), defaultdict[str, int](count(1).__next__)
    photos, found, remarks = list[AnnotatedPhoto](), set[Path](), Remarks()
    for file in ProgressBar(files, str(path), unit="file", leave=False, delay=1):
        with in_words(f"{file}: not in labelme's form (", "); export it again"):
            content = json.loads(read_text(file, "these outlines", "check the file's name"))
            image = photo or photo_files(folder or file.parent, folder is not None).find(content["imagePath"], file)
            stated = content.get("imageHeight"), content.get("imageWidth")
            size = upright_size(*header_of(image)) if None in stated else (int(stated[0]), int(stated[1]))
            instances = _instances(content["shapes"], size, ids, remarks)
        photos.append(AnnotatedPhoto(os.path.relpath(image, root), *size, instances))
        found.add(image.resolve())
    if path.is_dir() and folder is None:
        lacking = [image.name for image in photo_files(path, False).paths if image.resolve() not in found]
        remarks.add(NO_JSON_FILE, "".join(lacking[:1]), len(lacking))
    categories = {number: name for name, number in ids.items()}
    return Annotations(tuple(photos), categories, PhotoFiles(root, False), path, remarks)


def _instances(
    shapes: list[dict[str, Any]], size: tuple[int, int], ids: dict[str, int], remarks: Remarks
) -> tuple[Instance, ...]:
    """Return the instances of a file's ``shapes`` on a photo of a size (height, width).

    As labelme paints them, in order, a region of background hides what comes before it; one that covers nearly all of
    the photo is no hole. ``ids`` gives the category of each label. ValueError: a shape is damaged.
    """
    instances = list[Instance]()
    for place, entry in enumerate(shapes, 1):
        kind = str(entry.get("shape_type") or POLYGON)
        with in_words(f"shape {place}: ", "", EXPECTED, ValueError):
            shape, label = _shape(entry, kind, size), str(entry["label"])
            if shape is None:
                remarks.add(OTHER_SHAPE, kind)
                continue
            hole = pixels_of(shape, [*size]) if label.casefold() in BACKGROUND and instances else None
        if hole is None or hole.mean() > WHOLE:
            instances.append(Instance(ids[label], shape, (0.0,) * 4 if kind in BOXES else ()))
            continue
        remarks.add(HOLE, label)
        below = [_without(instance, hole) for instance in instances]
        instances = [instance for instance in below if instance is not None]
        remarks.add(COVERED, label, len(below) - len(instances))
    return tuple(instances)


def _without(instance: Instance, hole: np.ndarray) -> Instance | None:
    """Return an instance without the pixels of a hole (H, W) bool; None if no others are left."""
    pixels = pixels_of(instance.shape, [*hole.shape])
    if not (pixels & hole).any():
        return instance
    left = pixels & ~hole
    return instance._replace(shape=encoded(left)) if left.any() else None


def _shape(entry: dict[str, Any], kind: str, size: tuple[int, int]) -> Shape | None:
    """Return the shape of one entry of ``shapes`` on a photo of a size (height, width); None of other kinds."""
    points = np.array(entry["points"], np.float64).reshape(-1, 2)
    if kind == "rectangle":
        return (corners_of(*points.min(0), *points.max(0)),)
    if kind == "circle":
        (x, y), radius = points[0].tolist(), float(np.linalg.norm(points[1] - points[0]))
        return (ellipse_of(x, y, radius, radius),)
    if kind == "mask":  # a PNG in base64, whose first point is its upper left pixel
        part = region_in(entry["mask"])
        left, top = points.min(0).round().astype(int)
        right, bottom = left + part.shape[1], top + part.shape[0]
        if min(left, top) < 0 or bottom > size[0] or right > size[1]:
            raise ValueError("its mask reaches beyond the photo")
        return encoded(np.pad(part, ((top, size[0] - bottom), (left, size[1] - right))))
    is_outline = kind in (POLYGON, "rotation", "oriented_rectangle", "quadrilateral")  # the corners of all are points
    return (points.reshape(-1),) if is_outline else None


def write(folder: Path, found: Found) -> None:
    """Write a file for each photo; the parts of an object share a ``group_id``, and each has its score."""
    for photo in found.photos:
        rest: dict[str, Any] = {"description": "", "shape_type": POLYGON, "flags": {}, "mask": None}
        shapes = [
            {"label": one.name, "points": polygon.tolist(), "group_id": number, **rest, "score": one.score}
            for number, one in enumerate(photo.objects)
            for polygon in one.polygons()
        ]
        place = Path(os.path.relpath(photo.path, folder)).as_posix()
        head: dict[str, Any] = {"version": VERSION, "flags": {}, "shapes": shapes, "imagePath": place}
        content = {**head, "imageData": None, "imageHeight": photo.height, "imageWidth": photo.width}
        photo.write(folder / f"{photo.path.stem}{SUFFIX}", json.dumps(content, indent=1) + "\n")
