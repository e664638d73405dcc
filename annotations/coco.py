"""COCO's JSON format: annotations are read, predictions written."""

import json
import re
from collections import defaultdict
from contextlib import suppress
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
    Predictions,
    Shape,
    check_shape,
    content_errors,
)
from annotations.shapes import compressed, corners_of, extent_of, turned_outline, with_area
from util.files.errors import UserError
from util.files.folders import files_below
from util.files.output_folders import link
from util.files.reading import read_text
from util.files.writing import write_atomically

COCO_PHOTO_NAME = re.compile(r"(?:^|[/\\_])\d{12}\.jpg$")  # ends the names of COCO's photos, which may show crowds
ANNOTATIONS = "annotations"  # the usual folder, beside that of the photos
OF_PART = "instances_"  # begins the name of a part's file there; the name of the part follows
SLACK = 2  # pixels; programs round boxes, and count their last pixel or do not
SLACK_SHARE = 0.1  # of a box's longer side
EXPECTED = 'its "segmentation" must be outlines, [[x, y, x, y, ...], ...], or run lengths, {"size", "counts"}'
DISAGREE = (
    'its outline, bbox or area disagree: "bbox" is [x, y, width, height], from the upper left corner and upright; run '
    "lengths count down columns, not along rows"
)


def read_annotations(path: Path, folder: Path | None = None) -> Annotations:
    """Return the content of a JSON file in COCO's format, or of all below a folder, as of the parts of a set.

    A photo with an annotation that cannot be read or contradicts itself is left out: what it lacks would be learnt as
    background. Annotations of photos that are not listed are counted.

    Args:
        folder: of the photos, default the file's own, or the one above ``annotations``.

    Raises:
        UserError: a file is missing, cut short, not JSON, or holds no instance annotations; two list the same photo, or
            many photos would be left out.
    """
    root = path if path.is_dir() else path.parent
    annotations = Annotations.begin(path, root.parent if root.name == ANNOTATIONS else root, folder)
    for file in annotations.each(files_below(path, ".json") if path.is_dir() else [path]):
        _, is_of_part, part = file.stem.rpartition(OF_PART)
        has_folder = path.is_dir() and is_of_part and part in annotations.files.names_of_folders
        _read_file(file, annotations, Path(part) if has_folder else file.parent.relative_to(root))
    if len({photo.name for photo in annotations.photos}) < len(annotations.photos):
        raise UserError(f"{path}: several of its files list the same photos; name one of them, or take one out")
    return annotations.checked()


def _read_file(file: Path, annotations: Annotations, place: Path) -> None:
    """Add the photos of a JSON file; their names are paths from ``place``, below the folder of all.

    Polygons become arrays while it is parsed: as lists of numbers those of train2014 would take many gigabytes.
    """
    with content_errors(
        f"{file}: holds no instances in COCO's format (", "); export or download it again, or name another file"
    ):
        content = json.loads(
            read_text(file, "this annotation file", "unpack, download or export it again"), object_hook=_compact
        )
        categories = _categories(content["categories"])
        annotations.categories = annotations.categories or categories
        if categories != annotations.categories:
            raise ValueError("its categories are not those of the other files")
        images = {int(image["id"]): image for image in content["images"]}
        if len({image.get("file_name") for image in images.values()}) < len(content["images"]):
            raise ValueError("two images have the same id or file_name")
        entries = _by_image(content["annotations"])
        for number in sorted(images):
            with annotations.reading(f"{file}: ", "; correct what wrote it"):
                annotations.photos.append(_photo(images[number], entries.pop(number, []), annotations, place))
    annotations.remarks["left out: annotations of photos that are not listed"].update(
        {f"annotation {others[0]['id']}": len(others) for others in entries.values()}
    )


def _by_image(entries: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    """Return the annotations of each image id, with ids of their own; ValueError: one names none."""
    of_image = defaultdict[int, list[dict[str, Any]]](list)
    for number, entry in enumerate(entries, 1):
        entry.setdefault("id", number)
        with content_errors(f"annotation {entry['id']}: ", kind=ValueError):
            of_image[int(entry["image_id"])].append(entry)
    return of_image


def _categories(entries: list[dict[str, Any]]) -> dict[int, str]:
    """Return the names of the entries ``categories``, without spaces around them, by ascending id.

    ValueError: two have one name or id.
    """
    names = [str(entry["name"]).strip() for entry in entries]
    categories = dict(sorted(zip((int(entry["id"]) for entry in entries), names, strict=True)))
    if len({*names}) < len(entries) or len(categories) < len(entries):
        raise ValueError(f"two categories have the same id or name: {', '.join(names)}")
    return categories


def _photo(
    image: dict[str, Any], entries: list[dict[str, Any]], annotations: Annotations, place: Path
) -> AnnotatedPhoto:
    """Return an entry ``images`` with its annotations; ValueError: it or one of them is wrong.

    But for COCO's own photos, crowds of run lengths are objects: Datumaro and CVAT write masks so.
    """
    with content_errors(f"image {image['id']}: ", kind=ValueError):
        name = str(image["file_name"])
        size = int(image["height"]), int(image["width"])
    instances = []
    for entry in entries:
        with content_errors(f"annotation {entry['id']} of {name}: ", expected=EXPECTED, kind=ValueError):
            instances.append(_instance(entry, annotations.categories, size))
    is_painted = [instance.unknown and isinstance(instance.shape, dict) for instance in instances]
    if any(is_painted) and not COCO_PHOTO_NAME.search(name):
        annotations.remarks["read as objects: crowds (iscrowd 1) of run lengths"][name] += sum(is_painted)
        instances = [
            each._replace(unknown=each.unknown and not painted) for each, painted in zip(instances, is_painted)
        ]
    return AnnotatedPhoto((place / name).as_posix(), *size, tuple(instances), image.get(UPRIGHT) is True)


def _compact(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an object of JSON with arrays in place of outlines, if it has some."""
    with suppress(KeyError, TypeError, ValueError, OverflowError):  # said where the annotation is read
        entry["segmentation"] = shape_of(entry["segmentation"])
    return entry


def _instance(entry: dict[str, Any], categories: dict[int, str], size: tuple[int, int]) -> Instance:
    """Return an annotation on a photo of a size (height, width); ValueError, KeyError or TypeError: it is wrong.

    CVAT says beside a box by how much it is turned.
    """
    category = int(entry["category_id"])
    if category not in categories:
        raise ValueError(f"category_id {category} is not among the categories")
    has_box = bool(entry.get("bbox"))
    shape = shape_of(entry.get("segmentation") if has_box else entry["segmentation"])
    has_outline = isinstance(shape, dict) or any(len(outline) > 4 for outline in shape)
    is_boxed = has_box and not has_outline
    rotation = _rotation(entry.get("attributes"))
    if not rotation and _disagrees(shape, entry, has_outline, size):
        raise ValueError(DISAGREE)
    if is_boxed:
        x, y, width, height = map(float, entry["bbox"])
        upright = corners_of(x, y, x + width, y + height)
        shape = (turned_outline(upright, rotation, pivot=upright.reshape(4, 2).mean(0)),)
    check_shape(shape, size)
    is_crowd = bool(int(entry.get("iscrowd") or 0))
    return Instance(category, shape, is_boxed, unknown=is_crowd, confirmed=entry.get("by", PERSON) == PERSON)


def _rotation(attributes: Any) -> float:
    """Return by how many degrees a box is turned: 0 for a text, since users of CVAT may name an attribute so."""
    rotation = attributes.get("rotation") if isinstance(attributes, dict) else 0
    return rotation if isinstance(rotation, int | float) else 0.0


def _disagrees(shape: Shape, entry: dict[str, Any], has_outline: bool, photo: tuple[int, int]) -> bool:
    """Return whether an outline leaves its entry's box, or outline or area tell that the box is two corners.

    A box may be larger than what is outlined, as of objects that are partly hidden, or end at the edges of the photo
    (height, width). One without area, of at most a pixel, or of other than four numbers, says nothing.
    """
    box = np.array(entry.get("bbox") or (), np.float64)
    if box.shape != (4,) or max(box[2:]) <= 1 or not all(box[2:]):
        return False
    x, y, width, height = box.tolist()
    if not has_outline:
        return _is_of_corners_by_area(x, y, width, height, float(entry.get("area") or 0))
    if not (outlined := with_area(shape)):
        return False
    extent = extent_of(outlined)
    ends = np.array([x, y, x + width, y + height])
    left, top, right, bottom = extent.tolist()
    if abs(right - width) <= SLACK and np.abs(extent - box).max() <= SLACK < np.abs(extent - ends).max():
        return True
    photo_height, photo_width = photo
    overhangs = [  # of the outline, cut at the photo's edges, over the sides of the box
        x - max(left, 0),
        y - max(top, 0),
        min(right, photo_width) - (x + width),
        min(bottom, photo_height) - (y + height),
    ]
    return bool(np.max(overhangs) > SLACK + SLACK_SHARE * max(width, height))


def _is_of_corners_by_area(x: float, y: float, width: float, height: float, area: float) -> bool:
    """Return whether the area of a box fits two corners, (x, y) and (width, height), and not the box."""
    fits_box = np.rint(width * height) == np.rint(area)
    fits_corners = width > x and height > y and np.rint((width - x) * (height - y)) == np.rint(area)
    return bool(fits_corners and not fits_box)


def shape_of(segmentation: Any) -> Shape:
    """Return a segmentation as a shape, outlines or run lengths; ValueError, KeyError or TypeError: it is neither."""
    if isinstance(segmentation, dict):
        return compressed(segmentation)
    polygons = tuple(np.asarray(outline, np.float64).reshape(-1) for outline in segmentation or ())
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
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": len(images),
                    "category_id": ids[predicted.name],
                    "segmentation": predicted.runs,
                    "bbox": [*map(int, rle.toBbox(predicted.runs))],
                    "area": int(rle.area(predicted.runs)),
                    "iscrowd": 0,
                    "score": predicted.score,
                    **({} if predicted.by is None else {"by": predicted.by}),
                }
            )
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in ids.items()],
    }
    write_atomically(folder / "instances.json", json.dumps(content))
