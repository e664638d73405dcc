"""LabelMe's JSON format, which X-AnyLabeling shares, one file for each photo: it is read, and predictions written."""

import json
import os
from collections import Counter, defaultdict
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from util.data.images.read import header_of, upright_size
from util.files import files_below, read_text
from util.formats.annotations import AnnotatedPhoto, Annotations, Found, Instance, PhotoFiles, Shape, in_words
from util.formats.shapes import corners_of, ellipse_of, encoded, region_in

SUFFIX = ".json"
POLYGON = "polygon"
BOXES = ("rectangle", "rotation", "oriented_rectangle")  # the object is somewhere in them
EXPECTED = 'it must have "points", [[x, y], ...], "label" and "shape_type"'
VERSION = "5.5.0"  # of labelme, whose keys are written


def read_annotations(path: Path, folder: Path | None = None, photo: Path | None = None) -> Annotations:
    """Return the annotations of a file, or of all JSON files in a folder and its sub-folders.

    Shapes without area, such as stray points and lines, and those of unknown kinds are left out and counted. The photos
    are found by name in ``folder``, default the place that each file states, or its own; that of a single file may be
    given. UserError: a file is unreadable or in another format, or its photo is missing; the message names the file.
    """
    files = files_below(path, SUFFIX) if path.is_dir() else [path]
    root = folder or (path if path.is_dir() else path.parent)
    photo_files, ids = cache(PhotoFiles), defaultdict[str, int](count(1).__next__)
    photos, left_out = [], Counter[str]()
    for file in tqdm(files, str(path), unit="file", leave=False, delay=1):
        with in_words(f"{file}: not in labelme's form (", "); export it again"):
            content = json.loads(read_text(file, "these outlines", "check the file's name"))
            image = photo or photo_files(folder or file.parent, folder is not None).find(content["imagePath"], file)
            stated = content.get("imageHeight"), content.get("imageWidth")
            size = upright_size(*header_of(image)) if None in stated else (int(stated[0]), int(stated[1]))
            instances = []
            for place, entry in enumerate(content["shapes"], 1):
                kind = str(entry.get("shape_type") or POLYGON)
                with in_words(f"shape {place}: ", "", EXPECTED, ValueError):
                    shape = _shape(entry, kind, size)
                if shape is None:
                    left_out[f"shapes of the kind '{kind}'"] += 1
                else:
                    instances.append(Instance(ids[str(entry["label"])], shape, (0.0,) * 4 if kind in BOXES else ()))
        photos.append(AnnotatedPhoto(os.path.relpath(image, root), *size, tuple(instances)))
    categories = {number: name for name, number in ids.items()}
    return Annotations(tuple(photos), categories, PhotoFiles(root, False), path, left_out)


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
