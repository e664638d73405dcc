"""LabelMe's JSON format, which X-AnyLabeling shares, one file for each photo: it is read, and predictions written."""

import base64
import json
import os
import sys
from pathlib import Path, PureWindowsPath
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from util.data.images.read import header_of, upright_size
from util.errors import UserError
from util.files import read_text
from util.formats.annotations import Annotations, Found, Instance, Photo, PhotoFiles, Shape, reason_of
from util.formats.shapes import corners_of, ellipse_of, encoded

SUFFIX = ".json"
POLYGON = "polygon"
POLYGONS = (POLYGON, "rotation", "oriented_rectangle")  # turned rectangles have their four corners as points
VERSION = "5.5.0"  # of labelme, whose keys are written


def read_annotations(path: Path, folder: Path | None = None, photo: Path | None = None) -> Annotations:
    """Return the annotations of a file, or of all JSON files in a folder and its sub-folders.

    Shapes without area, such as stray points and lines, are left out, which a line says.

    Args:
        folder: of the photos, which are found there by name; default the place that each file states, or its own.
        photo: of a single file, whatever it states.

    Raises:
        UserError: a file is unreadable or in another format, or its photo is missing; the message names the file.
    """
    files = sorted(path.rglob(f"*{SUFFIX}")) if path.is_dir() else [path]
    root = folder or (path if path.is_dir() else path.parent)
    photo_files = None if folder is None else PhotoFiles(folder)
    ids: dict[str, int] = {}
    photos, without_area = [], list[Path]()
    for number, file in enumerate(tqdm(files, str(path), unit="file", leave=False, delay=1), 1):
        try:
            content = json.loads(read_text(file, "these outlines", "check the file's name"))
            image = photo or _photo_of(content["imagePath"], file, photo_files)
            stated = content.get("imageHeight"), content.get("imageWidth")
            size = upright_size(*header_of(image)) if None in stated else (int(stated[0]), int(stated[1]))
            shapes = [(str(entry["label"]), _shape(entry, size)) for entry in content["shapes"]]
            without_area += [file for _, shape in shapes if not shape]
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise UserError(f"{file}: not in labelme's form ({reason_of(error)}); export it again") from None
        instances = tuple(
            Instance(number, ids.setdefault(name, len(ids) + 1), False, shape) for name, shape in shapes if shape
        )
        photos.append(Photo(number, os.path.relpath(image, root), *size, instances))
    if without_area:
        left_out = f"{len(without_area)} points or lines, here or in later files, are left out"
        print(f"note: {without_area[0]}: {left_out}", file=sys.stderr)
    return Annotations(tuple(photos), {number: name for name, number in ids.items()}, root)


def _photo_of(stated: str, file: Path, photos: PhotoFiles | None) -> Path:
    """Return the photo of a file: among some photos by its name, else where the file states it, else beside the file.

    Programs on Windows write backslashes.
    """
    image = PureWindowsPath(stated)
    if photos is not None:
        return photos.named(image.name, file)
    for candidate in (file.parent / image.as_posix(), file.parent / image.name):
        if candidate.is_file():
            return candidate
    raise UserError(f"{file}: its photo '{stated}' is not there; name the folder of the photos with --photos")


def _shape(entry: dict[str, Any], size: tuple[int, int]) -> Shape:
    """Return the shape of one entry of ``shapes`` on a photo of a size (height, width); () of a kind without area."""
    kind = entry.get("shape_type") or POLYGON
    points = np.array(entry["points"], np.float64).reshape(-1, 2)
    if kind == "rectangle":
        return (corners_of(*points.min(0), *points.max(0)),)
    if kind == "circle":
        (x, y), radius = points[0].tolist(), float(np.linalg.norm(points[1] - points[0]))
        return (ellipse_of(x, y, radius, radius),)
    if kind == "mask":  # a PNG in base64, whose first point is its upper left pixel
        content = np.frombuffer(base64.b64decode(entry["mask"]), np.uint8)
        part = cv2.imdecode(content, cv2.IMREAD_GRAYSCALE) if content.size else None
        if part is None:
            raise ValueError("a mask is damaged")
        left, top = points.min(0).round().astype(int)
        mask = np.zeros(size, bool)
        mask[top : top + part.shape[0], left : left + part.shape[1]] = part > 0
        return encoded(mask)
    return (points.reshape(-1),) if kind in POLYGONS else ()


def write(folder: Path, found: Found) -> None:
    """Write a file for each photo; the parts of an object share a ``group_id``, and each has its score."""
    for photo in found.photos:
        shapes = [
            {
                "label": one.name,
                "points": polygon.tolist(),
                "group_id": number,
                "description": "",
                "shape_type": POLYGON,
                "flags": {},
                "mask": None,
                "score": one.score,
            }
            for number, one in enumerate(photo.objects)
            for polygon in one.polygons()
        ]
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
