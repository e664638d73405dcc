"""Label Studio's tasks: its JSON export is read, predictions are written as brush strokes (exact masks) or polygons."""

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from io import StringIO
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from model.episode import IGNORE
from util.data.lists.files import IMAGE_SUFFIXES
from util.data.marks import point_label
from util.files import read_json, write_atomically
from util.formats import annotations as form
from util.formats.annotations import AnnotatedPhoto, Annotations, Found, Instance, PhotoFiles, in_words
from util.formats.remarks import NO_LABEL, OTHER_REGION, Remarks
from util.formats.shapes import corners_of, decoded, ellipse_of, encoded, polygons_of, region_in

BRUSH, POLYGONS = "BrushLabels", "PolygonLabels"
CHANNELS = 4  # of a brush stroke: red, green, blue, opacity
WORD_BITS = 8  # of a value
COUNT_BITS = (3, 4, 8, 16)  # a run states in two bits which of these sizes its length has


class Control(NamedTuple):
    """The tag of a labelling configuration that regions belong to."""

    tag: str  # BRUSH or POLYGONS
    name: str = "label"
    image: str = "image"  # the name of the tag of the photo


def read_annotations(path: Path, folder: Path | None = None) -> Annotations:
    """Return the annotations of a JSON export, of each task one; where nothing is annotated, the predictions.

    It is the first that has regions, of the ground truth if there is one. A region belongs to the photo that its
    ``to_name`` and ``item_index`` say. Of a keypoint, as of ``points=``, pixels up to three radii away are unknown.
    Regions of other tools, and those without a label, are left out and counted. The photos are found by name in
    ``folder``, default the file's own. UserError: the file is unreadable or in another format.
    """
    ids, photos, remarks = defaultdict[str, int](count(1).__next__), list[AnnotatedPhoto](), Remarks()
    tasks = read_json(path, "these annotations", "export them again")
    with in_words(f"{path}: not in Label Studio's JSON form (", "); export it again"):
        if not any("annotations" in task or "predictions" in task for task in tasks) and "annotation_id" in tasks[0]:
            raise ValueError("this is JSON-MIN, which does not say how photos are rotated; choose JSON")
        kept = [[one for one in task.get("annotations", ()) if not one.get("was_cancelled")] for task in tasks]
        if not any(kept):
            kept = [task.get("predictions", []) for task in tasks]
        for number, (task, annotations) in enumerate(zip(tasks, kept), 1):
            with in_words(f"task {task.get('id', number)}: ", kind=ValueError):
                photos += photos_of(task, annotations, ids, remarks)
    photo_files = PhotoFiles(folder or path.parent, folder is not None)
    return Annotations(tuple(photos), {n: name for name, n in ids.items()}, photo_files, path, remarks)


def photos_of(
    task: dict[str, Any], annotations: list[dict[str, Any]], ids: dict[str, int], remarks: Remarks
) -> list[AnnotatedPhoto]:
    """Return the annotated photos of a task, by the first of its ground truth, else of its annotations with regions.

    Args:
        ids: give each label its category.
        remarks: take what is not understood.

    ValueError, KeyError or TypeError: an entry has another form.
    """
    ranked = sorted(annotations, key=lambda annotation: not annotation.get("ground_truth"))
    regions = [[entry for entry in annotation["result"] if "original_width" in entry] for annotation in ranked]
    of_photo = defaultdict[str, list[dict[str, Any]]](list)
    for entry in next(filter(None, regions), []):
        of_photo[_photo_of(entry, task)].append(entry)
    photos = []
    for stated, entries in of_photo.items():
        size = int(entries[0]["original_height"]), int(entries[0]["original_width"])
        instances: list[Instance] = []
        for names, entry in _labelled(entries, remarks):
            shapes = _shapes(entry, size)
            if not shapes:
                remarks.add(OTHER_REGION, entry["type"])
            for name in names:
                instances += [instance._replace(category=ids[name]) for instance in shapes]
        photos.append(AnnotatedPhoto(stated, *size, tuple(instances)))
    return photos


def _photo_of(entry: dict[str, Any], task: dict[str, Any]) -> str:
    """Return how a task states the photo of an entry of ``result``: in its data, else as the file that was uploaded.

    ValueError: none of its photos is the one that the entry names.
    """
    photos = _stated_photos(task)
    name = str(entry.get("to_name"))
    if name not in photos and len(photos) != 1:
        several = f"of its {len(photos)} photos, {', '.join(photos)}," if photos else "of its data"
        raise ValueError(f"{several} none is '{name}', the to_name of a region")
    stated = photos[name] if name in photos else next(iter(photos.values()))
    return stated[entry.get("item_index") or 0]


def _stated_photos(task: dict[str, Any]) -> dict[str, list[str]]:
    """Return the texts in a task's data that may state photos, by their keys: those of photos' names if there are any.

    ValueError: a photo is in the data itself, and nothing names its file.
    """
    texts, names, is_embedded = dict[str, list[str]](), dict[str, list[str]](), False
    for key, value in task["data"].items():
        values = value if isinstance(value, list) else [value]
        if not value or not all(isinstance(text, str) for text in values):
            continue
        if values[0].startswith("data:"):
            is_embedded = True
            continue
        texts[key] = values
        if any(spelling.lower().endswith(IMAGE_SUFFIXES) for spelling in form.spellings(values[0])):
            names[key] = values
    if names or not is_embedded:
        return names or texts
    uploaded = task.get("file_upload") or ""
    if not uploaded.lower().endswith(IMAGE_SUFFIXES):
        raise ValueError('a photo in base64 needs its name beside it in "data", such as "name": "a.jpg"')
    return {"file_upload": [uploaded]}


def _labelled(entries: list[dict[str, Any]], remarks: Remarks) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """Yield the labels of each entry of ``result`` that has some, and the entry; count regions that have none.

    A tool and its labels may be two entries of one region.
    """
    tools = ("", "brush", "bitmask", "polygon", "rectangle", "ellipse", "keypoint", "vector")
    known, unknown = [], []
    for entry in entries:
        kind, value = entry["type"], entry["value"]
        region = {key: part for key, part in value.items() if not key.endswith("labels")}
        if kind.endswith("labels") and (names := value.get(kind) or value.get("labels")):
            known.append(region)
            yield names, entry
        elif kind.removesuffix("labels") in tools:
            unknown.append(region)
    remarks.add(NO_LABEL, count=sum(region not in known for region in unknown))


def _shapes(entry: dict[str, Any], size: tuple[int, int]) -> list[Instance]:
    """Return the region of an entry on a photo (height, width) and what is unknown around it, of category 0."""
    value, (height, width) = entry["value"], size
    if entry.get("image_rotation"):
        raise ValueError("a photo is rotated there; rotate its file, and mark it anew")
    if "rle" in value:
        return [Instance(0, encoded(brush_mask(value["rle"], size)))]
    if "imageDataURL" in value:
        return [Instance(0, encoded(region_in(value["imageDataURL"])))]
    if "points" in value:
        return [Instance(0, ((np.array(value["points"], np.float64) / 100 * (width, height)).reshape(-1),))]
    if "x" not in value:
        return []
    x, y = value["x"] / 100 * width, value["y"] / 100 * height
    if "radiusX" in value:
        outline = ellipse_of(x, y, value["radiusX"] / 100 * width, value["radiusY"] / 100 * height)
    elif "height" in value:
        outline = corners_of(x, y, x + value["width"] / 100 * width, y + value["height"] / 100 * height)
    else:  # a keypoint
        label = point_label([(x, y)], size, joined=False)
        return [Instance(0, encoded(label == IGNORE), unknown=True), Instance(0, encoded(label == 1))]
    angle = np.deg2rad(value.get("rotation", 0))  # clockwise, of a rectangle about its first corner
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    turned = (((outline.reshape(-1, 2) - (x, y)) @ turn + (x, y)).reshape(-1),)
    return [Instance(0, turned, () if "radiusX" in value else (x, y, value["width"], value["height"]))]


def brush_mask(runs: list[int], size: tuple[int, int]) -> np.ndarray:
    """Return the mask of a size (H, W), bool, of ``brush_runs``; a run that begins with 0 has a value for each."""
    bits = StringIO("".join(f"{byte:08b}" for byte in runs))

    def number(length: int) -> int:
        digits = bits.read(length)
        if len(digits) < length:
            raise ValueError("run lengths of a brush are cut short")
        return int(digits, 2)

    total, word = number(32), number(5) + 1
    sizes, parts = [number(4) + 1 for _ in COUNT_BITS], list[np.ndarray]()
    while total > 0:
        repeated, length = number(1), number(sizes[number(2)]) + 1
        values = number(word) if repeated else [number(word) for _ in range(length)]
        parts.append(np.full(length, values, np.uint8))
        total -= length
    return np.concatenate(parts).reshape(*size, CHANNELS)[:, :, -1] > 0


def write(folder: Path, found: Found) -> None:
    """Write one task with one prediction for each photo, and the labelling configuration that the tasks need.

    A task states its photo from the folder above that of all photos, the document root of Label Studio's local files.
    """
    control, tasks = Control(POLYGONS if found.polygons else BRUSH), []
    for photo in found.photos:
        result: list[dict[str, Any]] = []
        for one in photo.objects:
            result += regions_of(decoded(one.runs), one.name, one.score, control)
        result = [{"id": f"r{number}", **region} for number, region in enumerate(result)]
        score = sum(one.score for one in photo.objects) / max(len(photo.objects), 1)
        place = f"/data/local-files/{form.LOCAL_FILES}" + quote(os.fsencode(f"{found.folder.name}/{photo.name}"))
        prediction = {"model_version": found.model, "score": score, "result": result}
        tasks.append({"data": {"image": place}, "predictions": [prediction]})
    labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in found.categories.values())
    image = f'  <Image name="{control.image}" value="$image"/>\n'
    opening = f'<{control.tag} name="{control.name}" toName="{control.image}">'
    config = f"<View>\n{image}  {opening}\n{labels}  </{control.tag}>\n</View>\n"
    write_atomically(folder / "config.xml", config)
    write_atomically(folder / "tasks.json", json.dumps(tasks))


def regions_of(mask: np.ndarray, name: str, score: float, control: Control) -> list[dict[str, Any]]:
    """Return the entries of ``result``, without ids, for a mask (H, W) bool of a class: one brush, or its polygons."""
    height, width = mask.shape
    if control.tag == BRUSH:
        values: list[dict[str, Any]] = [{"format": "rle", "rle": brush_runs(mask)}] if mask.any() else []
    else:
        outlines = [outline / (width, height) * 100 for outline in polygons_of(mask)]
        values = [{"points": outline.tolist(), "closed": True} for outline in outlines]
    kind = control.tag.lower()
    region = {"type": kind, "from_name": control.name, "to_name": control.image, "image_rotation": 0}
    region |= {"original_width": width, "original_height": height, "score": score}
    return [{**region, "value": {**value, kind: [name]}} for value in values]


def brush_runs(mask: np.ndarray) -> list[int]:
    """Return a mask (H, W) bool in the run lengths of Label Studio's brush, as bytes.

    The bits are: the number of values (32), the bits of a value less 1 (5), the four sizes of a length less 1 (4 each);
    then for each run a 1, which of the sizes (2), its length less 1, and its value. The values are those of an image
    with four channels, row by row.
    """
    flat = mask.reshape(-1)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
    lengths = np.diff(np.concatenate([starts, [flat.size]])) * CHANNELS
    bits = [f"{flat.size * CHANNELS:032b}", f"{WORD_BITS - 1:05b}", *(f"{size - 1:04b}" for size in COUNT_BITS)]
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        value = f"{255 * int(flat[start]):0{WORD_BITS}b}"
        while length:
            step = min(length, 2 ** COUNT_BITS[-1])
            number = next(i for i, size in enumerate(COUNT_BITS) if step <= 2**size)
            bits.append(f"1{number:02b}{step - 1:0{COUNT_BITS[number]}b}{value}")
            length -= step
    return np.packbits(np.frombuffer("".join(bits).encode(), np.uint8) - ord("0")).tolist()
