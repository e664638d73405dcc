"""LabelMe's JSON format, which X-AnyLabeling shares, one file for each photo: it is read, and predictions written."""

import json
import os
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from annotations.annotation import (
    UNCONFIRMED,
    UPRIGHT,
    Annotations,
    Instance,
    PredictedObject,
    Predictions,
    Shape,
    content_errors,
    outlines_of,
    pixels_of,
    write_of_photo,
)
from annotations.photo_files import PhotoFiles
from annotations.shapes import corners_of, ellipse_of, encoded, region_in
from annotations.words import BACKGROUND, place_of
from util.files.folders import files_below
from util.files.reading import read_text
from util.files.sizes import check_outlines

SUFFIX = ".json"
POLYGON = "polygon"
BOXES = ("rectangle", "rotation", "oriented_rectangle")  # the object is somewhere in them
OUTLINES = (POLYGON, "rotation", "oriented_rectangle", "quadrilateral")  # whose points are their corners
EXPECTED = 'it must have "points", [[x, y], ...], "label" and "shape_type"'
VERSION = "5.5.0"  # of labelme, whose keys are written


def read_annotations(path: Path, folder: Path | None = None) -> Annotations:
    """Return the annotations of a file, or of all JSON files in a folder and its sub-folders.

    Shapes without area, such as stray points and lines, and those of unknown kinds are left out and counted. Regions of
    background are holes in what lies below them. The photos are found by name in ``folder``, default the place that
    each file states, or its own. UserError: a file is unreadable or in another format, or its photo is missing; the
    message names the file.
    """
    home = path if path.is_dir() else path.parent
    annotations = Annotations.begin(path, home, folder)
    for file in annotations.each(files_below(path, SUFFIX) if path.is_dir() else [path]):
        with annotations.reading(f"{file}: not in labelme's form (", "); export it again"):
            content = json.loads(read_text(file, "these outlines", "check the file's name"))
            if path.is_dir() and "shapes" not in content:
                annotations.remarks["left out: JSON files of other kinds"][file.name] += 1
                continue
            image = _photo_of(content["imagePath"], file, home, annotations.files)
            size = int(content["imageHeight"]), int(content["imageWidth"])
            instances = _instances(content["shapes"], size, annotations, file.name)
            annotations.add(image, size, instances, is_upright=content.get(UPRIGHT) is True)
    return annotations.checked()


def _photo_of(stated: str, file: Path, home: Path, files: PhotoFiles) -> Path:
    """Return the photo that a file states: from its own folder on, else by its name, in folders like the file's.

    A file in no folder of ``home`` has the folders that it states. UserError: as ``PhotoFiles.find``.
    """
    path = PureWindowsPath(stated)
    place = (file.parent / path.as_posix()).resolve()
    folder = files.folder.resolve()
    if place.is_file() and (place.is_relative_to(folder) or not files.is_named):
        return files.find(os.path.relpath(place, folder), file)
    folders = [] if path.anchor else [part for part in path.parts[:-1] if place_of([part]) and part != ".."]
    like = PureWindowsPath(*(file.parent.relative_to(home).parts or folders))
    return files.find(str(like / path.name), file)


def _instances(
    shapes: list[dict[str, Any]], size: tuple[int, int], annotations: Annotations, file: str
) -> Iterator[Instance]:
    """Yield the instances of the ``shapes`` of a file on a photo of a size (height, width).

    As labelme paints them, in order, a region of background hides what comes before it. ValueError: a shape is damaged.
    """
    labelled: list[tuple[str, Instance]] = []
    for number, entry in enumerate(shapes, 1):
        kind = str(entry.get("shape_type") or POLYGON)
        with content_errors(f"shape {number}: ", expected=EXPECTED, kind=ValueError):
            shape = _shape(entry, kind, size)
            label = str(entry["label"]).strip()
        if shape is None:
            annotations.remarks[f"left out: shapes of the kind '{kind}'"][file] += 1
        else:
            flags = entry.get("flags") or {}
            category = annotations.category(label)
            labelled.append((label, Instance(category, shape, kind in BOXES, confirmed=not flags.get(UNCONFIRMED))))
    check_outlines([outline for _, instance in labelled for outline in outlines_of(instance.shape)], *size)
    visible: list[Instance] = []
    for label, instance in labelled:
        if label.casefold() in BACKGROUND:
            hole = pixels_of(instance.shape, [*size])
            visible = [_without(below, hole) for below in visible]
            annotations.remarks[f"holes in the objects below: regions of {label}"][file] += 1
        else:
            visible.append(instance)
    yield from visible


def _without(instance: Instance, hole: np.ndarray) -> Instance:
    """Return an instance without the pixels of a hole (H, W) bool."""
    pixels = pixels_of(instance.shape, [*hole.shape])
    return instance._replace(shape=encoded(pixels & ~hole)) if (pixels & hole).any() else instance


def _shape(entry: dict[str, Any], kind: str, size: tuple[int, int]) -> Shape | None:
    """Return the shape of one entry of ``shapes`` on a photo of a size (height, width); None of other kinds."""
    points = np.array(entry["points"], np.float64).reshape(-1, 2)
    if kind == "rectangle":
        return (corners_of(*points.min(0), *points.max(0)),)
    if kind == "circle":
        radius = float(np.linalg.norm(points[1] - points[0]))
        return (ellipse_of(points[0], radius, radius),)
    if kind == "mask":
        return _mask_shape(region_in(entry["mask"], size), points, size)
    if kind in OUTLINES:
        return (points.reshape(-1),)
    return None


def _mask_shape(mask: np.ndarray, points: np.ndarray, size: tuple[int, int]) -> Shape:
    """Return a mask (h, w) bool, whose first of ``points`` (2, 2) is its upper left pixel, cut at its photo's edges."""
    left_top = points.min(0).round().astype(int)
    places = np.argwhere(mask) + left_top[::-1]  # row and column of each pixel
    inside = places[((places >= 0) & (places < size)).all(1)]
    whole = np.zeros(size, bool)
    whole[tuple(inside.T)] = True
    return encoded(whole)


def write(folder: Path, predictions: Predictions) -> None:
    """Write a file for each photo; the parts of an object share a ``group_id``, and each has its score.

    What nobody confirmed has a flag that says so, which labelme shows beside the label.
    """
    for photo in predictions.photos:
        content: dict[str, Any] = {
            "version": VERSION,
            "flags": {},
            "shapes": [
                _shape_of(polygon, number, predicted)
                for number, predicted in enumerate(photo.objects)
                for polygon in predicted.polygons()
            ],
            "imagePath": os.path.relpath(photo.path, folder),
            "imageData": None,
            "imageHeight": photo.height,
            "imageWidth": photo.width,
            UPRIGHT: True,
        }
        write_of_photo(photo, folder / f"{photo.path.stem}{SUFFIX}", json.dumps(content, indent=1) + "\n")


def _shape_of(polygon: np.ndarray, number: int, predicted: PredictedObject) -> dict[str, Any]:
    """Return an outline of an object, which has a number on its photo, as an entry of ``shapes``."""
    return {
        "label": predicted.name,
        "points": polygon.tolist(),
        "group_id": number,
        "description": "",
        "shape_type": POLYGON,
        "flags": {UNCONFIRMED: True} if predicted.is_unconfirmed else {},
        "mask": None,
        "score": predicted.score,
    }
