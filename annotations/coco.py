"""COCO's JSON format: annotations are read, predictions written."""

import json
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as rle

from annotations.annotation import (
    PERSON,
    UPRIGHT,
    AnnotatedPhoto,
    Annotations,
    Instance,
    PredictedObject,
    Predictions,
    Shape,
    content_errors,
)
from annotations.shapes import compressed, corners_of
from util.files import read_text, write_atomically
from util.files.made import link

COCO_PHOTO_NAME = re.compile(r"(?:^|[/\\_])\d{12}\.jpg$")  # ends the names of COCO's photos, which may show crowds
ANNOTATIONS = "annotations"  # the usual folder, beside that of the photos
EXPECTED = 'its "segmentation" must be outlines, [[x, y, x, y, ...], ...], or run lengths, {"size", "counts"}'


def read_annotations(path: Path, folder: Path | None = None) -> Annotations:
    """Return the content of a JSON file in COCO's format; annotations of photos that it does not list are counted.

    Polygons become arrays while the file is parsed: as lists of numbers those of train2014 would take many gigabytes.

    Args:
        folder: of the photos, default the file's own, or the one above ``annotations``.

    Raises:
        UserError: the file is missing, cut short, not JSON, or holds no instance annotations.
    """
    home = path.parent.parent if path.parent.name == ANNOTATIONS else path.parent
    annotations = Annotations.begin(path, home, folder)
    text = read_text(path, "this annotation file", "unpack, download or export it again")
    with content_errors(f"{path}: holds no instances in COCO's format (", "); export or download it again"):
        content = json.loads(text, object_hook=_compact)
        annotations.categories = _categories(content["categories"])
        images = {int(image["id"]): image for image in content["images"]}
        if len({image["file_name"] for image in images.values()}) < len(content["images"]):
            raise ValueError("two images have the same id or file_name")
        instances = _instances_of(content["annotations"], annotations.categories)
        for number in sorted(images):
            annotations.photos.append(_photo(images[number], instances.pop(number, []), annotations.remarks))
        annotations.remarks["left out: annotations of photos that are not listed"].update(
            {f"image_id {number}": len(others) for number, others in instances.items()}
        )
    return annotations


def _instances_of(entries: list[Any], categories: dict[int, str]) -> dict[int, list[Instance]]:
    """Return the instances of each image id; KeyError, ValueError: one has no shape, or an unknown category."""
    instances = defaultdict[int, list[Instance]](list)
    for entry in entries:
        if isinstance(entry, dict):
            raise KeyError("segmentation")
        image_id, instance = entry
        if instance.category not in categories:
            raise ValueError(f"category_id {instance.category} is not among the categories")
        instances[image_id].append(instance)
    return instances


def _categories(entries: list[dict[str, Any]]) -> dict[int, str]:
    """Return the names of the entries ``categories``, without spaces around them, by ascending id.

    ValueError: two have one name or id.
    """
    names = [str(entry["name"]).strip() for entry in entries]
    categories = dict(sorted(zip((int(entry["id"]) for entry in entries), names, strict=True)))
    if len({*names}) < len(entries) or len(categories) < len(entries):
        raise ValueError(f"two categories have the same id or name: {', '.join(names)}")
    return categories


def _photo(image: dict[str, Any], instances: list[Instance], remarks: dict[str, Counter[str]]) -> AnnotatedPhoto:
    """Return an entry ``images`` with its instances.

    But for COCO's own photos, crowds of run lengths are objects: Datumaro and CVAT write masks so.
    """
    name = str(image["file_name"])
    if not COCO_PHOTO_NAME.search(name):
        for number, instance in enumerate(instances):
            if instance.unknown and isinstance(instance.shape, dict):
                instances[number] = instance._replace(unknown=False)
                remarks["read as objects: crowds (iscrowd 1) of run lengths"][name] += 1
    return AnnotatedPhoto(
        name=name,
        height=int(image["height"]),
        width=int(image["width"]),
        instances=tuple(instances),
        is_upright=image.get(UPRIGHT) is True,
    )


def _compact(entry: dict[str, Any]) -> dict[str, Any] | tuple[int, Instance]:
    """Return an annotation's image and the rest as soon as it is parsed; other entries unchanged."""
    if "segmentation" not in entry and not {"bbox", "image_id"} <= entry.keys():
        return entry
    with content_errors(f"annotation {entry.get('id')}: ", expected=EXPECTED, kind=ValueError):
        shape = shape_of(entry.get("segmentation"))
        has_outline = isinstance(shape, dict) or any(len(outline) > 4 for outline in shape)
        is_boxed = not has_outline and bool(entry.get("bbox"))
        if is_boxed:
            x, y, width, height = map(float, entry["bbox"])
            shape = (corners_of(x, y, x + width, y + height),)
        is_crowd = bool(int(entry.get("iscrowd") or 0))
        is_confirmed = entry.get("by", PERSON) == PERSON
        return int(entry["image_id"]), Instance(int(entry["category_id"]), shape, is_boxed, is_crowd, is_confirmed)


def shape_of(segmentation: Any) -> Shape:
    """Return a segmentation as a shape, outlines or run lengths; ValueError, KeyError or TypeError: it is neither."""
    if isinstance(segmentation, dict):
        return compressed(segmentation)
    polygons = tuple(np.array(outline, np.float64).reshape(-1) for outline in segmentation or ())
    if any(len(polygon) % 2 for polygon in polygons):
        raise ValueError(f"an outline has an odd number of numbers; {EXPECTED}")
    return polygons


def write(folder: Path, predictions: Predictions) -> None:
    """Write predictions as one JSON file; each annotation has a ``score`` beside COCO's keys.

    Masks are run lengths, which are exact. A link ``images`` lies beside the file.
    """
    ids = {name: number for number, name in predictions.categories.items()}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    link(predictions.folder, folder / "images", relative=True)
    for photo in predictions.photos:
        images.append(
            {
                "id": len(images) + 1,
                "file_name": photo.name,
                "height": photo.height,
                "width": photo.width,
                UPRIGHT: True,
            }
        )
        for predicted in photo.objects:
            numbers = {"id": len(annotations) + 1, "image_id": len(images), "category_id": ids[predicted.name]}
            annotations.append(numbers | _annotation(predicted))
    categories = [{"id": number, "name": name} for number, name in predictions.categories.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_atomically(folder / "instances.json", json.dumps(content))


def _annotation(predicted: PredictedObject) -> dict[str, Any]:
    """Return what an annotation says of an object beside its numbers."""
    annotation = {
        "segmentation": predicted.runs,
        "bbox": [*map(int, rle.toBbox(predicted.runs))],
        "area": int(rle.area(predicted.runs)),
        "iscrowd": 0,
        "score": predicted.score,
    }
    return annotation if predicted.by is None else {**annotation, "by": predicted.by}
