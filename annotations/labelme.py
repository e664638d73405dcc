"""LabelMe's JSON format, which X-AnyLabeling shares, one file for each photo: it is read, and predictions written."""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from annotations.annotation import (
    SOME_BOX,
    AnnotatedPhoto,
    Annotations,
    CategoryIds,
    Instance,
    PredictedPhoto,
    Predictions,
    Shape,
    Written,
    check_stated,
    content_errors,
    outlines_of,
    pixels_of,
)
from annotations.mask_files import home_of
from annotations.photo_files import PhotoFiles, is_file
from annotations.pictures import header_of
from annotations.remarks import BACKGROUND, BEYOND_MASK, COVERED, HOLE, NO_JSON_FILE, OTHER_JSON, OTHER_SHAPE, Remarks
from annotations.shapes import corners_of, ellipse_of, encoded, region_in
from util.files import files_below, read_text
from util.files.errors import UserError
from util.files.images import upright_size
from util.files.progress import ProgressBar
from util.files.sizes import check_outlines

SUFFIX = ".json"
POLYGON = "polygon"
BOXES = ("rectangle", "rotation", "oriented_rectangle")  # the object is somewhere in them
OUTLINES = (POLYGON, "rotation", "oriented_rectangle", "quadrilateral")  # whose points are their corners
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
    home = path if path.is_dir() else path.parent
    places = _Places(home, folder)
    ids = CategoryIds()
    photos: list[AnnotatedPhoto] = []
    annotated: set[Path] = set()
    remarks = Remarks()
    for file in ProgressBar(files, str(path), unit="file", leave=False, delay=1):
        with content_errors(f"{file}: not in labelme's form (", "); export it again"):
            content = json.loads(read_text(file, "these outlines", "check the file's name"))
            if path.is_dir() and _is_of_others(content):
                remarks.add(OTHER_JSON, file.name)
                continue
            image = photo or places.photo(content["imagePath"], file)
            height, width = _size(content, image)
            instances = _instances(content["shapes"], (height, width), ids, remarks)
        photos.append(AnnotatedPhoto(os.path.relpath(image, places.root), height, width, instances))
        annotated.add(image.resolve())
    if path.is_dir() and folder is None:
        remarks.add_named(NO_JSON_FILE, places.files(path, False).names_beside(annotated))
    return Annotations(tuple(photos), ids.names(), PhotoFiles(places.root, is_named=False), path, remarks)


class _Places:
    """The places in which the photos of labelme's files are looked for."""

    def __init__(self, home: Path, folder: Path | None):
        self.home = home  # of the files
        self.folder = folder  # of the photos, where it is given
        self.root = folder or home
        self.files = cache(PhotoFiles)

    def photo(self, stated: str, file: Path) -> Path:
        """Return the photo that a file states, found there or by its name; UserError: it is missing."""
        image = _stated_place(stated, file, self.root)
        if image is not None:
            return image
        near = [] if self.folder is not None else [file.parent]
        folders = dict.fromkeys([*near, home_of(file, self.home, self.root), self.root])
        return _find(stated, [self.files(place, self.folder is not None) for place in folders], file)


def _is_of_others(content: Any) -> bool:
    """Return whether the content of a JSON file is of another program."""
    return not isinstance(content, dict) or not {"shapes", "imagePath"} & content.keys()


def _stated_place(stated: str, source: Path, root: Path) -> Path | None:
    """Return the photo at the place that a file states from its own folder on; None: there is none, or not in root."""
    place = source.parent / PureWindowsPath(stated).as_posix()
    is_within = place.resolve().is_relative_to(root.resolve())
    return place if is_within and is_file(place) else None


def _find(stated: str, places: list[PhotoFiles], source: Path) -> Path:
    """Return the photo that a file states, in the first of some places that has it; errors as ``PhotoFiles.find``."""
    for place in places[:-1]:
        with suppress(UserError):
            return place.find(stated, source)
    return places[-1].find(stated, source)


def _size(content: dict[str, Any], image: Path) -> tuple[int, int]:
    """Return height and width of a file's photo, as the file states them, else as the photo has them.

    UserError: as ``check_stated``.
    """
    height, width = content.get("imageHeight"), content.get("imageWidth")
    if height is None or width is None:
        return upright_size(*header_of(image))
    height, width = int(height), int(width)
    check_stated(image, height, width)
    return height, width


def _instances(
    shapes: list[dict[str, Any]], size: tuple[int, int], ids: CategoryIds, remarks: Remarks
) -> tuple[Instance, ...]:
    """Return the instances of a file's ``shapes`` on a photo of a size (height, width).

    As labelme paints them, in order, a region of background hides what comes before it; one that covers nearly all of
    the photo is no hole. ``ids`` gives the category of each label. ValueError: a shape is damaged.
    """
    labelled: list[tuple[str, Instance]] = []
    for number, entry in enumerate(shapes, 1):
        kind = str(entry.get("shape_type") or POLYGON)
        with content_errors(f"shape {number}: ", expected=EXPECTED, kind=ValueError):
            shape = _shape(entry, kind, size, remarks)
            label = str(entry["label"]).strip()
        if shape is None:
            remarks.add(OTHER_SHAPE, kind)
        else:
            labelled.append((label, Instance(ids[label], shape, box=SOME_BOX if kind in BOXES else ())))
    return _with_holes(labelled, size, remarks)


def _with_holes(labelled: list[tuple[str, Instance]], size: tuple[int, int], remarks: Remarks) -> tuple[Instance, ...]:
    """Return the instances among labelled ones without the pixels of the holes that come after each."""
    check_outlines([outline for _, instance in labelled for outline in outlines_of(instance.shape)], *size)
    visible: list[Instance] = []
    holes = np.zeros(size, bool)  # that come later, and their label
    label_of_holes = ""
    for number, (label, instance) in reversed([*enumerate(labelled)]):
        if number and label.casefold() in BACKGROUND:
            hole = pixels_of(instance.shape, [*size])
            if hole.mean() <= WHOLE:
                holes |= hole
                label_of_holes = label
                remarks.add(HOLE, label)
                continue
        remaining = _without(instance, holes) if label_of_holes else instance
        if remaining is None:
            remarks.add(COVERED, label_of_holes)
        else:
            visible.append(remaining)
    return tuple(reversed(visible))


def _without(instance: Instance, hole: np.ndarray) -> Instance | None:
    """Return an instance without the pixels of a hole (H, W) bool; None if no others are left."""
    pixels = pixels_of(instance.shape, [*hole.shape])
    if not (pixels & hole).any():
        return instance
    remaining = pixels & ~hole
    return instance._replace(shape=encoded(remaining)) if remaining.any() else None


def _shape(entry: dict[str, Any], kind: str, size: tuple[int, int], remarks: Remarks) -> Shape | None:
    """Return the shape of one entry of ``shapes`` on a photo of a size (height, width); None of other kinds."""
    points = np.array(entry["points"], np.float64).reshape(-1, 2)
    if kind == "rectangle":
        return (corners_of(*points.min(0), *points.max(0)),)
    if kind == "circle":
        x, y = points[0].tolist()
        radius = float(np.linalg.norm(points[1] - points[0]))
        return (ellipse_of(x, y, radius, radius),)
    if kind == "mask":
        return _mask_shape(region_in(entry["mask"], size), points, size, remarks)
    if kind in OUTLINES:
        return (points.reshape(-1),)
    return None


def _mask_shape(mask: np.ndarray, points: np.ndarray, size: tuple[int, int], remarks: Remarks) -> Shape:
    """Return a mask (h, w) bool, whose first of ``points`` (2, 2) is its upper left pixel, on a photo of a size.

    As labelme does, it is cut at the photo's edges, which ``remarks`` count.
    """
    left, top = points.min(0).round().astype(int)
    first_row, last_row = np.clip((top, top + mask.shape[0]), 0, size[0])
    first_column, last_column = np.clip((left, left + mask.shape[1]), 0, size[1])
    part = mask[first_row - top : last_row - top, first_column - left : last_column - left]
    if part.shape != mask.shape:
        remarks.add(BEYOND_MASK)
    whole = np.zeros(size, bool)
    whole[first_row:last_row, first_column:last_column] = part
    return encoded(whole)


def write(folder: Path, predictions: Predictions) -> None:
    """Write a file for each photo; the parts of an object share a ``group_id``, and each has its score."""
    with Written(folder) as written:
        for photo, text in _texts(folder, predictions):
            written.write(photo, folder / f"{photo.path.stem}{SUFFIX}", text)


def _texts(folder: Path, predictions: Predictions) -> Iterator[tuple[PredictedPhoto, str]]:
    """Yield each photo and the text of its file, which names the photo relative to the folder."""
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
        yield photo, json.dumps(content, indent=1) + "\n"
