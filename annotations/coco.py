"""COCO's JSON format: annotations are read, predictions written."""

import json
import re
from collections.abc import Sized
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as rle

from annotations.annotation import (
    AnnotatedPhoto,
    Annotations,
    Instance,
    PredictedObject,
    Predictions,
    Shape,
    content_errors,
)
from annotations.mask_files import beside
from annotations.photo_files import PhotoFiles
from annotations.remarks import BRUSHED, NOT_LISTED, Remarks
from annotations.shapes import check_runs, joined
from util.files import read_text, write_atomically
from util.files.made import link

COCO_PHOTO_NAME = re.compile(r"(?:^|[/\\_])\d{12}\.jpg$")  # ends the names of COCO's photos, which may show crowds
BYTES_LITERAL = re.compile("b'(.*)'")
EXPECTED = 'its "segmentation" must be outlines, [[x, y, x, y, ...], ...], or run lengths, {"size", "counts"}'


def read_annotations(path: Path, folder: Path | None = None) -> Annotations:
    """Return the content of a JSON file in COCO's format; annotations of photos that it does not list are counted.

    Polygons become arrays while the file is parsed: as lists of numbers those of train2014 would take many gigabytes.

    Args:
        folder: of the photos, default the file's own.

    Raises:
        UserError: the file is missing, cut short, not JSON, or holds no instance annotations.
    """
    remarks = Remarks()
    text = read_text(path, "this annotation file", "unpack, download or export it again")
    with content_errors(f"{path}: holds no instances in COCO's format (", "); export or download it again"):
        content = json.loads(text, object_hook=_compact)
        categories = _categories(content["categories"])
        instances_of: dict[int, list[Instance]] = {int(image["id"]): [] for image in content["images"]}
        if len(instances_of) < len(content["images"]):
            raise ValueError("two images have the same id")
        if len({image["file_name"] for image in content["images"]}) < len(instances_of):
            raise ValueError("two images have the same file_name")
        for entry in content["annotations"]:
            if isinstance(entry, dict):
                raise KeyError("segmentation")
            image_id, instance = entry
            if instance.category not in categories:
                raise ValueError(f"category_id {instance.category} is not among the categories")
            if image_id in instances_of:
                instances_of[image_id].append(instance)
            else:
                remarks.add(NOT_LISTED, f"of image_id {image_id}")
        photos = _photos(content["images"], instances_of)
    photos = tuple(_with_brushes(photo, categories, remarks) for photo in photos)
    photo_files = PhotoFiles(folder or beside(path.parent), is_named=folder is not None)
    return Annotations(photos, categories, photo_files, path, remarks)


def _categories(entries: list[dict[str, Any]]) -> dict[int, str]:
    """Return the names of the entries ``categories``, without spaces around them, by ascending id.

    ValueError: two have one name or id.
    """
    categories: dict[int, str] = {}
    written: dict[str, str] = {}  # name -> as a file writes it
    for entry in entries:
        number, name = int(entry["id"]), str(entry["name"])
        is_new = name.strip() not in written
        other = written.setdefault(name.strip(), name)
        if number in categories or not is_new:
            raise ValueError(f"two categories have the same id or name, {number} '{name}' and '{other}'")
        categories[number] = name.strip()
    return dict(sorted(categories.items()))


def _photos(images: list[dict[str, Any]], instances_of: dict[int, list[Instance]]) -> tuple[AnnotatedPhoto, ...]:
    """Return the photos of the entries ``images``, by ascending id, each with the instances of its id."""
    photos = []
    for image in sorted(images, key=lambda image: int(image["id"])):
        instances = tuple(instances_of[int(image["id"])])
        photos.append(AnnotatedPhoto(str(image["file_name"]), int(image["height"]), int(image["width"]), instances))
    return tuple(photos)


def _with_brushes(photo: AnnotatedPhoto, categories: dict[int, str], remarks: Remarks) -> AnnotatedPhoto:
    """Return a photo with crowds of run lengths as objects, unless it is one of COCO: Datumaro and CVAT write masks so.

    ``remarks`` count them.
    """
    if COCO_PHOTO_NAME.search(photo.name):
        return photo
    instances = list(photo.instances)
    for number, instance in enumerate(instances):
        if instance.crowd and isinstance(instance.shape, dict):
            instances[number] = instance._replace(crowd=False)
            remarks.add(BRUSHED, categories[instance.category])
    return photo._replace(instances=tuple(instances))


def _compact(entry: dict[str, Any]) -> dict[str, Any] | tuple[int, Instance]:
    """Return an annotation's image and the rest as soon as it is parsed; other entries unchanged."""
    if "segmentation" not in entry and not {"bbox", "image_id"} <= entry.keys():
        return entry
    with content_errors(f"annotation {entry.get('id')}: ", expected=EXPECTED, kind=ValueError):
        shape = shape_of(entry.get("segmentation"))
        has_outline = isinstance(shape, dict) or any(len(outline) > 4 for outline in shape)
        box = () if has_outline else tuple(map(float, entry.get("bbox") or ()))
        is_crowd = bool(int(entry.get("iscrowd") or 0))
        instance = Instance(int(entry["category_id"]), shape, box, is_crowd)
        return int(entry["image_id"]), instance


def shape_of(segmentation: Any) -> Shape:
    """Return a segmentation as a shape: outlines, also one alone or of pairs; run lengths, also a list of them.

    ValueError, KeyError or TypeError: it is neither.
    """
    if isinstance(segmentation, dict):
        return _run_lengths(segmentation)
    if segmentation is None or not len(segmentation):
        return ()
    if isinstance(segmentation[0], dict):
        return joined([_run_lengths(part) for part in segmentation])
    outlines = [segmentation] if _is_one_outline(segmentation) else segmentation
    polygons = tuple(np.array(outline, np.float64).reshape(-1) for outline in outlines)
    if any(len(polygon) % 2 for polygon in polygons):
        raise ValueError("an outline has an odd number of numbers; x and y come in pairs")
    return polygons


def _run_lengths(segmentation: dict[str, Any]) -> dict[str, Any]:
    counts = segmentation["counts"]
    height, width = segmentation["size"]
    if isinstance(counts, bytes):
        counts = counts.decode("ascii")
    elif isinstance(counts, str):
        counts = _without_python(counts)
    else:
        counts = np.array([*counts], np.uint32).reshape(len(counts))
    runs = {"size": [int(height), int(width)], "counts": counts}
    check_runs(runs)
    return runs


def _without_python(counts: str) -> str:
    """Return counts in COCO's text form, of which Python's ``str`` of bytes, ``b'...'``, was written."""
    of_bytes = BYTES_LITERAL.fullmatch(counts)
    return of_bytes[1].replace("\\\\", "\\") if of_bytes else counts


def _is_one_outline(segmentation: Any) -> bool:
    """Return whether a list is one outline, of numbers or of at least three pairs of them, and no list of outlines."""
    if not isinstance(segmentation[0], Sized):
        return True
    return len(segmentation) > 2 and all(len(point) == 2 for point in segmentation)


def write(folder: Path, predictions: Predictions) -> None:
    """Write predictions as one JSON file; each annotation has a ``score`` beside COCO's keys.

    The area of an object is the number of its pixels, also where polygons are written. Links beside the file make the
    folder one of COCO's structure, as other programs want it: ``annotations`` and ``images``.
    """
    ids = {name: number for number, name in predictions.categories.items()}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    link(predictions.folder, folder / "images", relative=True)
    for photo in predictions.photos:
        images.append({"id": len(images) + 1, "file_name": photo.name, "height": photo.height, "width": photo.width})
        for predicted in photo.objects:
            annotation: dict[str, Any] = {
                "id": len(annotations) + 1,
                "image_id": len(images),
                "category_id": ids[predicted.name],
                "segmentation": _segmentation(predicted, predictions.polygons),
                "bbox": [*map(int, rle.toBbox(predicted.runs))],
                "area": int(rle.area(predicted.runs)),
                "iscrowd": 0,
                "score": predicted.score,
            }
            if predicted.by is not None:
                annotation["by"] = predicted.by
            annotations.append(annotation)
    categories = [{"id": number, "name": name} for number, name in predictions.categories.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_atomically(folder / "instances.json", json.dumps(content))
    second_name = folder / "annotations/instances_default.json"
    second_name.unlink(missing_ok=True)  # of earlier predictions
    link(folder / "instances.json", second_name, relative=True)


def _segmentation(predicted: PredictedObject, as_polygons: bool) -> list[list[float]] | dict[str, Any]:
    if as_polygons:
        return [polygon.reshape(-1).tolist() for polygon in predicted.polygons()]
    return predicted.runs
