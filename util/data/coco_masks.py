"""Annotations in COCO's JSON format and the masks of class indices that they describe.

A mask is painted in this order: first crowd regions, as 255 (ignored), then instances from the largest to the smallest
by the pixels of their own masks. So of two overlapping instances the smaller is on top, of two equal ones the later in
the file. Empty and degenerate polygons (fewer than three points, or all points on one line) cover nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as rle

from model.contract import IGNORE
from util.data.polygons import prepared
from util.errors import UserError
from util.read_files import read_json

MAPPED = ("images", "annotations", "categories")
RLE_ZERO, RLE_BITS, RLE_SIGN, RLE_MORE = 48, 5, 16, 32  # of COCO's text form of run lengths


class Instance(NamedTuple):
    """One annotation; shape: polygons, each (2 x points,) float64, or a run-length encoding {"size", "counts"}."""

    image: int
    category: int
    crowd: bool
    shape: tuple[np.ndarray, ...] | dict[str, Any]


class Photo(NamedTuple):
    """One image of an annotation file and its instances, in the file's order."""

    id: int
    name: str  # of its file, relative to the folder of photos
    height: int
    width: int
    instances: tuple[Instance, ...]


@dataclass(frozen=True)
class Annotations:
    """An annotation file: photos by ascending id, and category id -> name by ascending id."""

    photos: tuple[Photo, ...]
    categories: dict[int, str]

    @property
    def annotated(self) -> tuple[Photo, ...]:
        """The photos that have at least one annotation."""
        return tuple(p for p in self.photos if p.instances)


def read_annotations(path: Path) -> Annotations:
    """Return the content of a JSON file in COCO's format; annotations of images that it does not list are ignored.

    Polygons become arrays while the file is parsed: as lists of numbers those of train2014 would take many gigabytes.

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
        return _collect(content)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{path}: is not in COCO's format ({_reason(error)}); export it again") from None


class _NotCoco(Exception):
    """An entry of a file of annotations has another form than COCO's."""


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _compact(entry: dict[str, Any]) -> dict[str, Any] | Instance:
    """Convert an annotation as soon as it is parsed; return other entries unchanged."""
    try:
        return _converted(entry)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _NotCoco(_reason(error)) from None


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
    crowd = _whole(entry.get("iscrowd", 0))
    if crowd not in (0, 1):
        raise ValueError(f"iscrowd is {crowd}, not 0 or 1")
    return Instance(_whole(entry["image_id"]), _whole(entry["category_id"]), bool(crowd), shape)


def _whole(value: Any) -> int:
    """Return a whole number, which some programs write as 3.0, "3" or true.

    Raises:
        ValueError: it is none.
    """
    number = int(value)
    if not isinstance(value, str) and number != value:
        raise ValueError(f"{value} is not a whole number")
    return number


def _text(value: Any) -> str:
    """Return a text without control characters.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, (str, int, float)) or not str(value).isprintable():
        raise ValueError(f"{str(value)[:80]!r} is not a name")
    return str(value)


def _collect(content: dict[str, list]) -> Annotations:
    categories = dict(sorted((_whole(c["id"]), _text(c["name"])) for c in content["categories"]))
    if len(categories) < len(content["categories"]):
        raise ValueError("two categories have the same id")
    of_image: dict[int, list[Instance]] = {_whole(image["id"]): [] for image in content["images"]}
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
        name = PurePosixPath(_text(image["file_name"]))
        if name.is_absolute() or ".." in name.parts or not name.parts:
            raise ValueError(f"file_name '{name}' is not the name of a file in a folder of photos")
        height, width = _whole(image["height"]), _whole(image["width"])
        if min(height, width) < 1:
            raise ValueError(f"image {name} has no pixels")
        number = _whole(image["id"])
        photos.append(Photo(number, str(name), height, width, tuple(of_image[number])))
    return Annotations(tuple(sorted(photos, key=lambda photo: photo.id)), categories)


def class_table(categories: Iterable[int]) -> dict[int, int]:
    """Return category id -> class id: 1, 2, ... by ascending category id."""
    return {category: i for i, category in enumerate(sorted(categories), start=1)}


def class_mask(photo: Photo, table: Mapping[int, int]) -> np.ndarray:
    """Return a photo's class indices, (H, W) uint8: 0 is background, 255 is crowd.

    Args:
        table: category id -> class id; annotations of other categories are ignored, including crowd regions.

    Raises:
        UserError: an annotation does not fit the photo; the message names the photo.
    """
    mask = np.zeros((photo.height, photo.width), np.uint8)
    instances = []
    for instance in photo.instances:
        if instance.category not in table:
            continue
        try:
            region = _region(instance, photo)
        except ValueError as error:
            raise UserError(
                f"{photo.name}: its annotation of category {instance.category} is damaged ({error}); correct the JSON"
            ) from None
        if instance.crowd:
            mask[region] = IGNORE
        else:
            instances.append((int(region.sum()), table[instance.category], region))
    for _, class_id, region in sorted(instances, key=lambda i: i[0], reverse=True):
        mask[region] = class_id
    return mask


def _region(instance: Instance, photo: Photo) -> np.ndarray:
    """Return the pixels of an annotation, (H, W) bool."""
    height, width = photo.height, photo.width
    if isinstance(instance.shape, dict):
        encoded = _checked_runs(instance.shape, height, width)
    else:
        polygons = prepared(instance.shape, height, width)
        if not polygons:
            return np.zeros((height, width), bool)
        encoded = rle.merge(rle.frPyObjects(polygons, height, width))
    return rle.decode(encoded).view(bool)


def _checked_runs(shape: dict[str, Any], height: int, width: int) -> dict[str, Any]:
    """Return a run-length encoding in its compressed form after the checks that the decoder omits."""
    counts, size = shape.get("counts"), shape.get("size")
    if size != [height, width]:
        raise ValueError(f"its size is {size}, the image's [{height}, {width}]")
    if isinstance(counts, str):
        covered = sum(_runs(counts))
    elif isinstance(counts, np.ndarray) and counts.ndim == 1:
        covered = int(counts.sum(dtype=np.int64))
    else:
        raise ValueError("its counts are neither text nor a list of numbers")
    if covered != height * width:
        raise ValueError(f"its runs cover {covered} pixels, the image has {height * width}")
    return shape if isinstance(counts, str) else rle.frPyObjects(shape, height, width)


def _runs(counts: str) -> list[int]:
    """Return the runs of COCO's text form.

    Each character holds five bits of a number, the lowest first, and a bit that says whether more follow. From the
    fourth run on, the numbers are differences from the run before the last.
    """
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        group = ord(character) - RLE_ZERO
        if not 0 <= group < 2 * RLE_MORE:
            raise ValueError(f"its counts hold '{character}'")
        value |= (group & (RLE_MORE - 1)) << shift
        shift += RLE_BITS
        if group & RLE_MORE:
            continue
        if group & RLE_SIGN:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        if runs[-1] < 0:
            raise ValueError("one of its runs is negative")
        value = shift = 0
    if shift:
        raise ValueError("its counts end within a number")
    return runs
