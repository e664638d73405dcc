"""LabelMe's JSON format, which X-AnyLabeling shares, one file for each photo: it is read, and predictions written."""

from __future__ import annotations

import base64
import io
import json
import os
import warnings
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from PIL import Image

from util.data.images.orientation import upright_size
from util.data.images.read import header_of
from util.errors import UserError
from util.files import read_text, write_atomically
from util.formats.annotations import (
    Annotations,
    Collector,
    Shape,
    checked_text,
    circle_of,
    corners_of,
    reason_of,
    whole,
)
from util.formats.contours import polygons_of
from util.formats.found import FoundPhoto
from util.formats.photo_files import PhotoFiles, check_size, progress
from util.formats.run_lengths import decoded, encoded

SUFFIX = ".json"
SHAPES = "shapes"  # the key that identifies the format
POLYGON, RECTANGLE, CIRCLE, MASK = "polygon", "rectangle", "circle", "mask"
POLYGONS = (POLYGON, "rotation", "oriented_rectangle")  # turned rectangles have their four corners as points
WITHOUT_AREA = ("point", "points", "line", "linestrip")
VERSION = "5.5.0"  # of labelme, whose keys are written
WORD, MEND = "these outlines", "check the file's name"


def read_annotations(path: Path, folder: Path | None = None) -> Annotations:
    """Return the annotations of a file, or of all JSON files in a folder and its sub-folders.

    Args:
        folder: of the photos, which are found there by name; default the place that each file states, or its own.

    Raises:
        UserError: a file is unreadable or in another format, or its photo is missing; the message names the file.
    """
    files = sorted(path.rglob(f"*{SUFFIX}")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path}: this folder holds no {SUFFIX} file; name the folder of labelme's files")
    collector, photos = Collector(), None if folder is None else PhotoFiles(folder)
    root = folder or (path if path.is_dir() else path.parent)
    for file in progress(files, str(path)):
        content = read_content(file)
        photo = photos.named(_image_name(content, file).name, file) if photos else _photo_beside(content, file)
        stored, orientation = header_of(photo)
        size = stated_size(content, file) or upright_size(stored, orientation)
        check_size(size, photo, file)
        collector.add(os.path.relpath(photo, root), size, objects_in(content, file, size))
    return collector.annotations(root)


def read_content(path: Path) -> Any:
    """Return the content of one file.

    Raises:
        UserError: the file is unreadable or not JSON.
    """
    try:
        return json.loads(read_text(path, WORD, MEND))
    except ValueError as error:
        raise _refusal(path, error) from None


def objects_in(content: Any, path: Path, size: tuple[int, int]) -> list[tuple[str, Shape]]:
    """Return label and shape of each object of a file on a photo of a size (height, width).

    Raises:
        UserError: the file has another form.
    """
    try:
        shapes = content.get(SHAPES) if isinstance(content, dict) else None
        if not isinstance(shapes, list) or not all(isinstance(entry, dict) for entry in shapes):
            raise ValueError(f"'{SHAPES}' must be a list of objects")
        return [(checked_text(entry["label"]), _shape(entry, size)) for entry in shapes]
    except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise _refusal(path, error) from None


def _refusal(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: not in labelme's form ({reason_of(error)}); export it again")


def _shape(entry: dict[str, Any], size: tuple[int, int]) -> Shape:
    """Return the shape of one entry of ``shapes``."""
    kind = entry.get("shape_type") or POLYGON
    if kind in WITHOUT_AREA:
        return kind
    points = np.array(entry["points"], np.float64)
    if not all(type(number) in (int, float) for point in entry["points"] for number in point):
        raise ValueError("a shape's points must be pairs of numbers")
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise ValueError("a shape's points must be pairs of numbers")
    if kind == RECTANGLE:
        return (corners_of(*points.min(0), *points.max(0)),)
    if kind == CIRCLE:
        radius = float(np.linalg.norm(points[1] - points[0]))
        return (circle_of(points[0], radius),)
    if kind == MASK:
        return _pasted(entry["mask"], points, size)
    if kind not in POLYGONS:
        raise ValueError(f"a shape of type '{str(kind)[:80]}' is unknown; use polygon, rectangle or circle")
    return (points.reshape(-1),)


def _pasted(text: str, points: np.ndarray, size: tuple[int, int]) -> dict[str, Any]:
    """Return the run lengths of a mask stored as a PNG in base64, whose first point is its upper left pixel."""
    left, top = (whole(round(float(value))) for value in points.min(0))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sizes, checked below
            image = Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=("PNG",))
    except Exception as error:  # a malicious file can raise anything
        raise ValueError(f"a mask is damaged: {error}") from None
    if not (0 <= left <= left + image.width <= size[1] and 0 <= top <= top + image.height <= size[0]):
        raise ValueError("a mask reaches beyond its photo")
    try:
        part = np.asarray(image.convert("L")) > 0
    except Exception as error:
        raise ValueError(f"a mask is damaged: {error}") from None
    mask = np.zeros(size, bool)
    mask[top : top + part.shape[0], left : left + part.shape[1]] = part
    return encoded(mask)


def stated_size(content: Any, path: Path) -> tuple[int, int] | None:
    """Return the photo's (height, width) that a file states, None where it states none.

    Raises:
        UserError: it is no size.
    """
    stated = [content.get(key) if isinstance(content, dict) else None for key in ("imageHeight", "imageWidth")]
    if None in stated:
        return None
    try:
        return whole(stated[0]), whole(stated[1])
    except (ValueError, TypeError, OverflowError) as error:
        raise _refusal(path, error) from None


def _image_name(content: Any, path: Path) -> Path:
    """Return the path of the photo as a file states it; programs on Windows write backslashes."""
    stated = content.get("imagePath") if isinstance(content, dict) else None
    if not isinstance(stated, str) or not stated.isprintable() or not PureWindowsPath(stated).name:
        raise _refusal(path, ValueError("'imagePath' must be the name of a photo"))
    return Path(stated if Path(stated).is_absolute() else PureWindowsPath(stated).as_posix())


def _photo_beside(content: Any, path: Path) -> Path:
    """Return the path of a file's photo: where the file states it, else beside the file."""
    stated = _image_name(content, path)
    for candidate in (path.parent / stated, path.parent / PureWindowsPath(str(stated)).name):
        if candidate.is_file():
            return candidate
    raise UserError(f"{path}: its photo '{stated}' is not there; name the folder of the photos with --photos")


def write_photo(path: Path, photo: FoundPhoto) -> None:
    """Write the predictions for one photo; the parts of an object share a ``group_id``, and each has its score.

    Raises:
        WriteError: the file cannot be written.
    """
    shapes = [
        {
            "label": found.name,
            "points": polygon.tolist(),
            "group_id": number,
            "description": "",
            "shape_type": POLYGON,
            "flags": {},
            "mask": None,
            "score": found.score,
        }
        for number, found in enumerate(photo.objects)
        for polygon in polygons_of(decoded(found.runs))
    ]
    content: dict[str, Any] = {
        "version": VERSION,
        "flags": {},
        SHAPES: shapes,
        "imagePath": Path(os.path.relpath(photo.path, path.parent)).as_posix(),
        "imageData": None,
        "imageHeight": photo.height,
        "imageWidth": photo.width,
    }
    write_atomically(path, json.dumps(content, indent=1) + "\n")
