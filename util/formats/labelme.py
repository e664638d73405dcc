"""LabelMe's JSON format, which X-AnyLabeling shares, one file for each photo: it is read, and predictions written."""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from util.data.images.read import header_of, upright_size
from util.files import files_below, read_text
from util.formats.annotations import (
    AnnotatedPhoto,
    Annotations,
    CategoryIds,
    Instance,
    Predictions,
    Shape,
    in_words,
    pixels_of,
)
from util.formats.photo_files import PhotoFiles
from util.formats.remarks import BACKGROUND, COVERED, HOLE, NO_JSON_FILE, OTHER_SHAPE, Remarks
from util.formats.shapes import corners_of, ellipse_of, encoded, region_in
from util.progress import ProgressBar

SUFFIX = ".json"
POLYGON = "polygon"
BOXES = ("rectangle", "rotation", "oriented_rectangle")  # the object is somewhere in them
OUTLINES = (POLYGON, "rotation", "oriented_rectangle", "quadrilateral")  # whose points are their corners
SOME_BOX = (0.0, 0.0, 0.0, 0.0)  # tells that a shape is a box; its outline says which
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
    photo_files = cache(PhotoFiles)
    ids = CategoryIds()
    photos: list[AnnotatedPhoto] = []
    annotated: set[Path] = set()
    remarks = Remarks()
    for file in ProgressBar(files, str(path), unit="file", leave=False, delay=1):
        with in_words(f"{file}: not in labelme's form (", "); export it again"):
            content = json.loads(read_text(file, "these outlines", "check the file's name"))
            image = photo
            if image is None:
                place = photo_files(folder or file.parent, folder is not None)
                image = place.find(content["imagePath"], file)
            height, width = _size(content, image)
            instances = _instances(content["shapes"], (height, width), ids, remarks)
        photos.append(AnnotatedPhoto(os.path.relpath(image, root), height, width, instances))
        annotated.add(image.resolve())
    if path.is_dir() and folder is None:
        others = [image.name for image in photo_files(path, False).paths if image.resolve() not in annotated]
        remarks.add_named(NO_JSON_FILE, others)
    return Annotations(tuple(photos), ids.names(), PhotoFiles(root, is_named=False), path, remarks)


def _size(content: dict[str, Any], image: Path) -> tuple[int, int]:
    """Return height and width of a file's photo, as the file states them, else as the photo has them."""
    height, width = content.get("imageHeight"), content.get("imageWidth")
    if height is None or width is None:
        return upright_size(*header_of(image))
    return int(height), int(width)


def _instances(
    shapes: list[dict[str, Any]], size: tuple[int, int], ids: CategoryIds, remarks: Remarks
) -> tuple[Instance, ...]:
    """Return the instances of a file's ``shapes`` on a photo of a size (height, width).

    As labelme paints them, in order, a region of background hides what comes before it; one that covers nearly all of
    the photo is no hole. ``ids`` gives the category of each label. ValueError: a shape is damaged.
    """
    instances: list[Instance] = []
    for number, entry in enumerate(shapes, 1):
        kind = str(entry.get("shape_type") or POLYGON)
        with in_words(f"shape {number}: ", expected=EXPECTED, kind=ValueError):
            shape = _shape(entry, kind, size)
            label = str(entry["label"]).strip()
            if shape is None:
                remarks.add(OTHER_SHAPE, kind)
                continue
            is_background = label.casefold() in BACKGROUND
            hole = pixels_of(shape, [*size]) if is_background and instances else None
        if hole is None or hole.mean() > WHOLE:
            instances.append(Instance(ids[label], shape, box=SOME_BOX if kind in BOXES else ()))
            continue
        remarks.add(HOLE, label)
        uncovered = [_without(instance, hole) for instance in instances]
        remarks.add(COVERED, label, uncovered.count(None))
        instances = [instance for instance in uncovered if instance is not None]
    return tuple(instances)


def _without(instance: Instance, hole: np.ndarray) -> Instance | None:
    """Return an instance without the pixels of a hole (H, W) bool; None if no others are left."""
    pixels = pixels_of(instance.shape, [*hole.shape])
    if not (pixels & hole).any():
        return instance
    remaining = pixels & ~hole
    return instance._replace(shape=encoded(remaining)) if remaining.any() else None


def _shape(entry: dict[str, Any], kind: str, size: tuple[int, int]) -> Shape | None:
    """Return the shape of one entry of ``shapes`` on a photo of a size (height, width); None of other kinds."""
    points = np.array(entry["points"], np.float64).reshape(-1, 2)
    if kind == "rectangle":
        return (corners_of(*points.min(0), *points.max(0)),)
    if kind == "circle":
        x, y = points[0].tolist()
        radius = float(np.linalg.norm(points[1] - points[0]))
        return (ellipse_of(x, y, radius, radius),)
    if kind == "mask":
        return _mask_shape(region_in(entry["mask"]), points, size)
    if kind in OUTLINES:
        return (points.reshape(-1),)
    return None


def _mask_shape(mask: np.ndarray, points: np.ndarray, size: tuple[int, int]) -> Shape:
    """Return a mask (h, w) bool, whose first of ``points`` (2, 2) is its upper left pixel, on a photo of a size."""
    left, top = points.min(0).round().astype(int)
    right, bottom = left + mask.shape[1], top + mask.shape[0]
    height, width = size
    if min(left, top) < 0 or bottom > height or right > width:
        raise ValueError("its mask reaches beyond the photo")
    return encoded(np.pad(mask, ((top, height - bottom), (left, width - right))))


def write(folder: Path, predictions: Predictions) -> None:
    """Write a file for each photo; the parts of an object share a ``group_id``, and each has its score."""
    for photo in predictions.photos:
        shapes = []
        for number, predicted in enumerate(photo.objects):
            for polygon in predicted.polygons():
                shape = {
                    "label": predicted.name,
                    "points": polygon.tolist(),
                    "group_id": number,
                    "description": "",
                    "shape_type": POLYGON,
                    "flags": {},
                    "mask": None,
                    "score": predicted.score,
                }
                shapes.append(shape)
        content: dict[str, Any] = {
            "version": VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": Path(os.path.relpath(photo.path, folder)).as_posix(),
            "imageData": None,
            "imageHeight": photo.height,
            "imageWidth": photo.width,
        }
        photo.write(folder / f"{photo.path.stem}{SUFFIX}", json.dumps(content, indent=1) + "\n")
