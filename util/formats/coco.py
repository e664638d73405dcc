"""COCO's JSON format: annotations are read, predictions written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from util.errors import UserError
from util.files import read_json, write_atomically
from util.formats.annotations import Annotations, Instance, Photo, checked_text, name_inside, reason_of, whole
from util.formats.contours import polygons_of
from util.formats.found import FoundObject, FoundPhoto
from util.formats.run_lengths import decoded

MAPPED = ("images", "annotations", "categories")


def read_annotations(path: Path, folder: Path | None = None) -> Annotations:
    """Return the content of a JSON file in COCO's format; annotations of images that it does not list are ignored.

    Polygons become arrays while the file is parsed: as lists of numbers those of train2014 would take many gigabytes.

    Args:
        folder: of the photos; default the file's own.

    Raises:
        UserError: the file is missing, cut short, not JSON, or holds no instance annotations.
    """
    try:
        content = read_json(path, "this annotation file", "unpack, download or export it again", object_hook=_compact)
    except _NotCoco as error:
        raise UserError(f"{path}: an annotation is not in COCO's format ({error}); export it again") from None
    missing = [key for key in MAPPED if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if missing:
        raise UserError(f"{path}: holds no '{missing[0]}'; name a file of instances, such as instances_train2014.json")
    try:
        return replace(_collect(content), folder=folder or path.parent)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{path}: is not in COCO's format ({reason_of(error)}); export it again") from None


class _NotCoco(Exception):
    """An entry of a file of annotations has another form than COCO's."""


def _compact(entry: dict[str, Any]) -> dict[str, Any] | Instance:
    """Convert an annotation as soon as it is parsed; return other entries unchanged."""
    try:
        return _converted(entry)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _NotCoco(reason_of(error)) from None


def _converted(entry: dict[str, Any]) -> dict[str, Any] | Instance:
    if "counts" in entry and isinstance(entry["counts"], list):
        if not all(type(count) is int for count in entry["counts"]):
            raise ValueError("counts must be whole numbers")
        return entry | {"counts": np.array(entry["counts"], np.uint32)}
    if "segmentation" not in entry:
        return entry
    shape = entry["segmentation"]
    if not isinstance(shape, dict):
        shape = tuple(np.array(polygon, np.float64) for polygon in shape)
        if any(polygon.ndim != 1 for polygon in shape):
            raise ValueError("a polygon must be a list of numbers")
    crowd = whole(entry.get("iscrowd", 0))
    if crowd not in (0, 1):
        raise ValueError(f"iscrowd is {crowd}, not 0 or 1")
    return Instance(whole(entry["image_id"]), whole(entry["category_id"]), bool(crowd), shape)


def _collect(content: dict[str, list]) -> Annotations:
    categories = dict(sorted((whole(c["id"]), checked_text(c["name"])) for c in content["categories"]))
    if len(categories) < len(content["categories"]):
        raise ValueError("two categories have the same id")
    of_image: dict[int, list[Instance]] = {whole(image["id"]): [] for image in content["images"]}
    if len(of_image) < len(content["images"]):
        raise ValueError("two images have the same id")
    for instance in content["annotations"]:
        if not isinstance(instance, Instance):
            raise KeyError("segmentation")
        if instance.category not in categories:
            raise ValueError(f"category_id {instance.category} is not among the categories")
        if instance.image in of_image:
            of_image[instance.image].append(instance)
    photos = []
    for image in content["images"]:
        name = name_inside(image["file_name"])
        height, width = whole(image["height"]), whole(image["width"])
        if min(height, width) < 1:
            raise ValueError(f"image {name} has no pixels")
        number = whole(image["id"])
        photos.append(Photo(number, name, height, width, tuple(of_image[number])))
    return Annotations(tuple(sorted(photos, key=lambda photo: photo.id)), categories)


def class_table(categories: Iterable[int]) -> dict[int, int]:
    """Return category id -> class id: 1, 2, ... by ascending category id."""
    return {category: i for i, category in enumerate(sorted(categories), start=1)}


def write_annotations(
    path: Path,
    photos: Callable[[], Iterator[FoundPhoto]],
    names: Callable[[FoundPhoto], str],
    categories: dict[int, str],
    polygons: bool = False,
) -> None:
    """Write predictions as one JSON file, photo by photo; each annotation has a ``score`` beside COCO's keys.

    Args:
        photos: gives the photos from the beginning, at each call.
        names: gives the ``file_name`` of a photo.
        categories: all categories, id -> name, whether found or not.
        polygons: write outlines in place of run lengths; the area remains the number of pixels.

    Raises:
        WriteError: the file cannot be written.
    """
    ids = {name: number for number, name in categories.items()}

    def images() -> Iterator[dict[str, Any]]:
        for number, photo in enumerate(photos(), 1):
            yield {"id": number, "file_name": names(photo), "height": photo.height, "width": photo.width}

    def annotations() -> Iterator[dict[str, Any]]:
        count = 0
        for number, photo in enumerate(photos(), 1):
            for found in photo.objects:
                count += 1
                yield {"id": count, "image_id": number, "category_id": ids[found.name], **_annotation(found, polygons)}

    def write(target: Path) -> None:
        with open(target, "w", encoding="utf-8") as file:
            file.write('{"images": ')
            write_list(file, images())
            file.write(',\n"annotations": ')
            write_list(file, annotations())
            entries = [{"id": number, "name": name} for number, name in categories.items()]
            file.write(f',\n"categories": {json.dumps(entries)}}}\n')

    write_atomically(path, write)


def write_list(file: TextIO, entries: Iterable[Any]) -> None:
    """Write the entries of a JSON list as they come, one a line."""
    separator = "["
    for entry in entries:
        file.write(f"{separator}\n{json.dumps(entry)}")
        separator = ","
    file.write("]" if separator == "," else "[]")


def _annotation(found: FoundObject, polygons: bool) -> dict[str, Any]:
    shape: Any = found.runs
    if polygons:
        shape = [polygon.reshape(-1).tolist() for polygon in polygons_of(decoded(found.runs))]
    left, top, right, bottom = found.box
    box = [left, top, right - left, bottom - top]
    return {"segmentation": shape, "bbox": box, "area": found.area, "iscrowd": 0, "score": found.score}
