"""COCO's JSON format: annotations are read, predictions written."""

import json
from collections.abc import Sized
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as rle

from util.files import link, read_text, write_atomically
from util.formats.annotations import AnnotatedPhoto, Annotations, Found, Instance, PhotoFiles, Shape, in_words
from util.formats.remarks import NOT_LISTED, Remarks
from util.formats.shapes import decoded, encoded

EXPECTED = 'its "segmentation" must be outlines, [[x, y, x, y, ...], ...], or run lengths, {"size", "counts"}'


def read_annotations(path: Path, folder: Path | None = None) -> Annotations:
    """Return the content of a JSON file in COCO's format; annotations of photos that it does not list are counted.

    Polygons become arrays while the file is parsed: as lists of numbers those of train2014 would take many gigabytes.
    The photos are found in ``folder``, default the file's own. UserError: the file is missing, cut short, not JSON, or
    holds no instance annotations.
    """
    remarks = Remarks()
    text = read_text(path, "this annotation file", "unpack, download or export it again")
    with in_words(f"{path}: holds no instances in COCO's format (", "); export or download it again"):
        content = json.loads(text, object_hook=_compact)
        categories = dict(sorted((int(c["id"]), str(c["name"])) for c in content["categories"]))
        of_image: dict[int, list[Instance]] = {int(image["id"]): [] for image in content["images"]}
        if len({*categories.values()}) < len(content["categories"]) or len(of_image) < len(content["images"]):
            raise ValueError("two images have the same id, or two categories the same id or name")
        for entry in content["annotations"]:
            if isinstance(entry, dict):
                raise KeyError("segmentation")
            number, instance = entry
            if instance.category not in categories:
                raise ValueError(f"category_id {instance.category} is not among the categories")
            if number in of_image:
                of_image[number].append(instance)
            else:
                remarks.add(NOT_LISTED, f"of image_id {number}")
        photos = [
            AnnotatedPhoto(str(image["file_name"]), int(image["height"]), int(image["width"]), tuple(of_image[number]))
            for number, image in sorted((int(image["id"]), image) for image in content["images"])
        ]
    photo_files = PhotoFiles(folder or path.parent, folder is not None)
    return Annotations(tuple(photos), categories, photo_files, path, remarks)


def _compact(entry: dict[str, Any]) -> dict[str, Any] | tuple[int, Instance]:
    """Return an annotation's image and the rest as soon as it is parsed; other entries unchanged."""
    if "segmentation" not in entry and not {"bbox", "image_id"} <= entry.keys():
        return entry
    with in_words(f"annotation {entry.get('id')}: ", "", EXPECTED, ValueError):
        shape = shape_of(entry.get("segmentation"))
        has_outline = isinstance(shape, dict) or any(len(outline) > 4 for outline in shape)
        box = () if has_outline else tuple(map(float, entry.get("bbox") or ()))
        instance = Instance(int(entry["category_id"]), shape, box, bool(int(entry.get("iscrowd") or 0)))
        return int(entry["image_id"]), instance


def shape_of(given: Any) -> Shape:
    """Return a segmentation as a shape: outlines, also one alone or of pairs; run lengths, also a list of them.

    ValueError, KeyError or TypeError: it is neither.
    """
    if isinstance(given, dict):
        counts, (height, width) = given["counts"], given["size"]
        counts = counts.decode("ascii") if isinstance(counts, bytes) else counts
        counts = counts if isinstance(counts, str) else np.array(counts, np.uint32)
        return {"size": [int(height), int(width)], "counts": counts}
    if given is None or not len(given):
        return ()
    if isinstance(given[0], dict):
        return encoded(np.any([decoded(one) for one in map(shape_of, given) if isinstance(one, dict)], axis=0))
    is_one = not isinstance(given[0], Sized) or (len(given) > 2 and all(len(point) == 2 for point in given))
    outlines = tuple(np.array(outline, np.float64).reshape(-1) for outline in ([given] if is_one else given))
    if any(len(outline) % 2 for outline in outlines):
        raise ValueError("an outline has an odd number of numbers; x and y come in pairs")
    return outlines


def write(folder: Path, found: Found) -> None:
    """Write predictions as one JSON file; each annotation has a ``score`` beside COCO's keys.

    The area of an object is the number of its pixels, also where polygons are written. Links beside the file make the
    folder one of COCO's structure, as other programs want it: ``annotations`` and ``images``.
    """
    ids = {name: number for number, name in found.categories.items()}
    images, annotations = list[dict[str, Any]](), list[dict[str, Any]]()
    link(found.folder, folder / "images", relative=True)
    for photo in found.photos:
        images.append({"id": len(images) + 1, "file_name": photo.name, "height": photo.height, "width": photo.width})
        for one in photo.objects:
            numbers = {"id": len(annotations) + 1, "image_id": len(images), "category_id": ids[one.name]}
            shape = [p.reshape(-1).tolist() for p in one.polygons()] if found.polygons else one.runs
            extent = {"bbox": [*map(int, rle.toBbox(one.runs))], "area": int(rle.area(one.runs)), "iscrowd": 0}
            annotations.append({**numbers, "segmentation": shape, **extent, "score": one.score})
    categories = [{"id": number, "name": name} for number, name in found.categories.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_atomically(folder / "instances.json", json.dumps(content))
    link(folder / "instances.json", folder / "annotations/instances_default.json", relative=True)
