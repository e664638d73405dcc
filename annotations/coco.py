"""COCO's JSON format: annotations are read, predictions written."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

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
from annotations.shapes import compressed, corners_of, extent_of, has_area, turned_outline
from util.files.errors import UserError
from util.files.folders import files_below
from util.files.made import link
from util.files.reading import read_text
from util.files.writing import write_atomically

COCO_PHOTO_NAME = re.compile(r"(?:^|[/\\_])\d{12}\.jpg$")  # ends the names of COCO's photos, which may show crowds
ANNOTATIONS = "annotations"  # the usual folder, beside that of the photos
SLACK = 2  # pixels; programs round boxes, and count their last pixel or do not
SLACK_SHARE = 0.1  # of a box's longer side
MANY = 0.2  # of the photos; more are a fault of the program that wrote the file
DISAGREE = "left out: photos with an annotation whose outline, bbox or area disagree"
EXPECTED = 'its "segmentation" must be outlines, [[x, y, x, y, ...], ...], or run lengths, {"size", "counts"}'


class _Mark(NamedTuple):
    """An annotation; one that contradicts itself has what says so for the size of its photo."""

    instance: Instance
    name: str
    is_wrong: Callable[[tuple[int, int]], bool] | None = None


def read_annotations(path: Path, folder: Path | None = None) -> Annotations:
    """Return the content of a JSON file in COCO's format, or of all below a folder, as of the parts of a set.

    Annotations of photos that are not listed are counted, and photos with an annotation that contradicts itself.
    Polygons become arrays while a file is parsed: as lists of numbers those of train2014 would take many gigabytes.

    Args:
        folder: of the photos, default the file's own, or the one above ``annotations``.

    Raises:
        UserError: a file is missing, cut short, not JSON, or holds no instance annotations; two list the same photo, or
            many annotations contradict themselves.
    """
    root = path if path.is_dir() else path.parent
    annotations = Annotations.begin(path, root.parent if root.name == ANNOTATIONS else root, folder)
    for file in annotations.each(files_below(path, ".json") if path.is_dir() else [path]):
        _read_file(file, file.parent.relative_to(root).as_posix(), annotations)
    if len({photo.name for photo in annotations.photos}) < len(annotations.photos):
        raise UserError(f"{path}: several of its files list the same photos; name one of them, or take one out")
    wrong = annotations.remarks[DISAGREE]
    right = len(annotations.annotated)
    if wrong and (not right or len(wrong) > max(1, MANY * (right + len(wrong)))):
        raise UserError(
            f"{path}: {next(iter(wrong))}: its outline, bbox or area disagree, as on {len(wrong)} photos",
            fix='correct what wrote them: "bbox" is [x, y, width, height], from the upper left corner and upright; '
            "run lengths count down columns, not along rows",
        )
    return annotations


def _read_file(file: Path, place: str, annotations: Annotations) -> None:
    """Take the photos of a JSON file, whose names count from a ``place`` below the folder of all files."""
    text = read_text(file, "this annotation file", "unpack, download or export it again")
    with content_errors(
        f"{file}: holds no instances in COCO's format (", "); export or download it again, or name another file"
    ):
        content = json.loads(text, object_hook=_compact)
        categories = _categories(content["categories"])
        annotations.categories = annotations.categories or categories
        if categories != annotations.categories:
            raise ValueError("its categories are not those of the other files")
        images = {int(image["id"]): image for image in content["images"]}
        if len({image["file_name"] for image in images.values()}) < len(content["images"]):
            raise ValueError("two images have the same id or file_name")
        marks = _marks_of(content["annotations"], categories)
        for number in sorted(images):
            photo = _photo(images[number], marks.pop(number, []), annotations.remarks)
            name = photo.name if place == "." else f"{place}/{photo.name}"
            annotations.photos.append(photo._replace(name=name))
        annotations.remarks["left out: annotations of photos that are not listed"].update(
            {f"image_id {number}": len(others) for number, others in marks.items()}
        )


def _marks_of(entries: list[Any], categories: dict[int, str]) -> dict[int, list[_Mark]]:
    """Return the annotations of each image id.

    KeyError, ValueError: an entry has no shape, or an unknown category.
    """
    marks = defaultdict[int, list[_Mark]](list)
    for entry in entries:
        if isinstance(entry, dict):
            raise KeyError("segmentation")
        image_id, mark = entry
        if mark.instance.category not in categories:
            raise ValueError(f"{mark.name}: category_id {mark.instance.category} is not among the categories")
        marks[image_id].append(mark)
    return marks


def _categories(entries: list[dict[str, Any]]) -> dict[int, str]:
    """Return the names of the entries ``categories``, without spaces around them, by ascending id.

    ValueError: two have one name or id.
    """
    names = [str(entry["name"]).strip() for entry in entries]
    categories = dict(sorted(zip((int(entry["id"]) for entry in entries), names, strict=True)))
    if len({*names}) < len(entries) or len(categories) < len(entries):
        raise ValueError(f"two categories have the same id or name: {', '.join(names)}")
    return categories


def _photo(image: dict[str, Any], marks: list[_Mark], remarks: dict[str, Counter[str]]) -> AnnotatedPhoto:
    """Return an entry ``images`` with its instances; with none of them if one is wrong.

    But for COCO's own photos, crowds of run lengths are objects: Datumaro and CVAT write masks so.
    """
    name = str(image["file_name"])
    height, width = int(image["height"]), int(image["width"])
    wrong = [mark.name for mark in marks if mark.is_wrong and mark.is_wrong((width, height))]
    instances = [mark.instance for mark in marks if not wrong]
    if wrong:
        remarks[DISAGREE][f"{wrong[0]} of {name}"] += 1
    if not COCO_PHOTO_NAME.search(name):
        for number, instance in enumerate(instances):
            if instance.unknown and isinstance(instance.shape, dict):
                instances[number] = instance._replace(unknown=False)
                remarks["read as objects: crowds (iscrowd 1) of run lengths"][name] += 1
    return AnnotatedPhoto(
        name=name,
        height=height,
        width=width,
        instances=tuple(instances),
        is_upright=image.get(UPRIGHT) is True,
    )


def _compact(entry: dict[str, Any]) -> dict[str, Any] | tuple[int, _Mark]:
    """Return an annotation's image and the rest as soon as it is parsed; other entries unchanged.

    CVAT says beside a box by how much it is turned.
    """
    if "segmentation" not in entry and not {"bbox", "image_id"} <= entry.keys():
        return entry
    with content_errors(f"annotation {entry.get('id')}: ", expected=EXPECTED, kind=ValueError):
        shape = shape_of(entry.get("segmentation"))
        has_outline = isinstance(shape, dict) or any(len(outline) > 4 for outline in shape)
        is_boxed = not has_outline and bool(entry.get("bbox"))
        rotation = _rotation(entry.get("attributes"))
        is_wrong = None
        if not rotation and _disagrees(shape, entry, has_outline):
            is_wrong = partial(_disagrees, shape, entry, has_outline)
        if is_boxed:
            x, y, width, height = map(float, entry["bbox"])
            upright = corners_of(x, y, x + width, y + height)
            shape = (turned_outline(upright, rotation, pivot=upright.reshape(4, 2).mean(0)),)
        is_crowd = bool(int(entry.get("iscrowd") or 0))
        is_confirmed = entry.get("by", PERSON) == PERSON
        instance = Instance(int(entry["category_id"]), shape, is_boxed, is_crowd, is_confirmed)
        return int(entry["image_id"]), _Mark(instance, f"annotation {entry.get('id')}", is_wrong)


def _rotation(attributes: Any) -> float:
    """Return by how many degrees a box is turned; users of CVAT may have a text of this name."""
    rotation = attributes.get("rotation") if isinstance(attributes, dict) else 0
    return rotation if isinstance(rotation, int | float) else 0.0


def _disagrees(
    shape: Shape, entry: dict[str, Any], has_outline: bool, photo: tuple[float, float] = (np.inf, np.inf)
) -> bool:
    """Return whether an outline leaves the box of its entry, or the box is of two corners, by outline or area.

    A box may be larger than what is outlined, as of objects that are partly hidden, or end at the edges of the photo
    (width, height). One without area, of at most a pixel, or of other than four numbers, says nothing.
    """
    box = np.array(entry.get("bbox") or (), np.float64)
    if box.shape != (4,) or box[2:].max() <= 1 or not box[2:].all():
        return False
    start, size = box[:2], box[2:]
    ends = np.concatenate([start, start + size])
    if not has_outline:
        return _is_of_corners_by_area(start, size, float(entry.get("area") or 0))
    if not has_area(shape):
        return False
    extent = extent_of(shape)
    slack = SLACK + SLACK_SHARE * size.max()
    overhangs = [(one - ends) * (-1, -1, 1, 1) for one in (extent, extent.clip(0, photo * 2))]
    is_of_corners = np.abs(extent - box).max() <= SLACK < np.abs(extent - ends).max()
    return bool(np.min(overhangs, 0).max() > slack or is_of_corners)


def _is_of_corners_by_area(start: np.ndarray, size: np.ndarray, area: float) -> bool:
    """Return whether the area of a box fits two corners in its place, and not the box."""
    areas = [size.prod(), (size - start).prod()]
    fits = np.rint(areas) == np.rint(area)
    return bool((size > start).all() and fits.tolist() == [False, True])


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
