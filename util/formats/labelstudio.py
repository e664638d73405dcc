"""Label Studio's tasks: its JSON export is read, predictions are written as brush strokes (exact masks) or polygons."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from model.episode import IGNORE
from util.data.lists.files import IMAGE_SUFFIXES
from util.data.marks import point_label
from util.files import read_json, write_atomically
from util.formats import annotations as form
from util.formats.annotations import Annotations, Found, FoundObject, FoundPhoto, Instance, Photo, PhotoFiles, in_words
from util.formats.coco import json_list
from util.formats.shapes import corners_of, decoded, ellipse_of, encoded, region_in

TOOLS = ("", "brush", "bitmask", "polygon", "rectangle", "ellipse", "keypoint", "vector")
CHANNELS = 4  # of a brush stroke: red, green, blue, opacity
WORD_BITS = 8  # of a value
COUNT_BITS = (3, 4, 8, 16)  # a run states in two bits which of these sizes its length has


def read_annotations(path: Path, folder: Path | None = None) -> Annotations:
    """Return the annotations of a JSON export, of each task one; where nothing is annotated, the predictions.

    It is the first that has regions, of the ground truth if there is one. A region belongs to the photo that its
    ``to_name`` and ``item_index`` say. Of a keypoint, as of ``points=``, pixels up to three radii away are unknown.
    Regions of other tools, and those without a label, are left out and counted. The photos are found by name in
    ``folder``, default the file's own. UserError: the file is unreadable or in another format.
    """
    ids, photos, left_out = dict[str, int](), list[Photo](), Counter[str]()
    tasks = read_json(path, "these annotations", "export them again")
    with in_words(f"{path}: not in Label Studio's JSON form (", "); export it again"):
        if not any("annotations" in task or "predictions" in task for task in tasks) and "annotation_id" in tasks[0]:
            raise ValueError("this is JSON-MIN, which does not say how photos are rotated; choose JSON")
        kept = [[one for one in task.get("annotations", ()) if not one.get("was_cancelled")] for task in tasks]
        kept = kept if any(kept) else [task.get("predictions", ()) for task in tasks]
        for number, (task, annotations) in enumerate(zip(tasks, kept), 1):
            with in_words(f"task {task.get('id', number)}: ", kind=ValueError):
                found = (
                    [entry for entry in one["result"] if "original_width" in entry]
                    for one in sorted(annotations, key=lambda one: not one.get("ground_truth"))
                )
                of_photo = defaultdict(list)
                for entry in next(filter(None, found), []):
                    of_photo[_photo_of(entry, task)].append(entry)
                for stated, entries in of_photo.items():
                    size, one = (int(entries[0]["original_height"]), int(entries[0]["original_width"])), len(photos) + 1
                    instances = [
                        Instance(one, ids.setdefault(name, len(ids) + 1), *region)
                        for names, entry in _labelled(entries, left_out)
                        for name in names
                        for region in _shapes(entry, size) or left_out.update([f"regions of '{entry['type']}'"]) or ()
                    ]
                    photos.append(Photo(one, stated, *size, tuple(instances)))
    files, categories = PhotoFiles(folder or path.parent, folder is not None), {n: name for name, n in ids.items()}
    return Annotations(tuple(photos), categories, files, path, left_out)


def _photo_of(entry: dict[str, Any], task: dict[str, Any]) -> str:
    """Return how a task states the photo of an entry of ``result``: in its data, else as the file that was uploaded."""
    lists = {key: value if isinstance(value, list) else [value] for key, value in task["data"].items() if value}
    texts = {key: values for key, values in lists.items() if all(isinstance(text, str) for text in values)}
    names = {key: values for key, values in texts.items() if not values[0].startswith("data:")}  # the photo itself
    images = {k: v for k, v in names.items() if any(s.lower().endswith(IMAGE_SUFFIXES) for s in form.spellings(v[0]))}
    if texts != names and not images:
        images = {"file_upload": [task.get("file_upload") or ""]}
        if not images["file_upload"][0].lower().endswith(IMAGE_SUFFIXES):
            raise ValueError('a photo in base64 needs its name beside it in "data", such as "name": "a.jpg"')
    known, name = images or names, str(entry.get("to_name"))
    if name not in known and len(known) != 1:
        several = f"of its {len(known)} photos, {', '.join(known)}," if known else "of its data"
        raise ValueError(f"{several} none is '{name}', the to_name of a region")
    return known.get(name, next(iter(known.values())))[entry.get("item_index") or 0]


def _labelled(entries: list[dict[str, Any]], left_out: Counter[str]) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """Yield the labels of each entry of ``result`` that has some, and the entry; count regions that have none.

    A tool and its labels may be two entries of one region.
    """
    regions = [{k: v for k, v in entry["value"].items() if not k.endswith("labels")} for entry in entries]
    labels = [
        value.get(kind) or value.get("labels") if kind.endswith("labels") else None
        for kind, value in ((entry["type"], entry["value"]) for entry in entries)
    ]
    known = [region for region, names in zip(regions, labels, strict=True) if names]
    for region, names, entry in zip(regions, labels, entries, strict=True):
        if names:
            yield names, entry
        elif entry["type"].removesuffix("labels") in TOOLS and region not in known:
            left_out["regions without a label"] += 1


def _shapes(entry: dict[str, Any], size: tuple[int, int]) -> list[tuple[Any, ...]]:
    """Return whether a region is unknown, its shape, and a rectangle's box, of an entry on a photo (height, width)."""
    value, (height, width) = entry["value"], size
    if entry.get("image_rotation"):
        raise ValueError("a photo is rotated there; rotate its file, and mark it anew")
    if "rle" in value:
        return [(False, encoded(brush_mask(value["rle"], size)))]
    if "imageDataURL" in value:
        return [(False, encoded(region_in(value["imageDataURL"])))]
    if "points" in value:
        return [(False, ((np.array(value["points"], np.float64) / 100 * (width, height)).reshape(-1),))]
    if "x" not in value:
        return []
    x, y = value["x"] / 100 * width, value["y"] / 100 * height
    if "radiusX" in value:
        outline = ellipse_of(x, y, value["radiusX"] / 100 * width, value["radiusY"] / 100 * height)
    elif "height" in value:
        outline = corners_of(x, y, x + value["width"] / 100 * width, y + value["height"] / 100 * height)
    else:  # a keypoint
        label = point_label([(x, y)], size, joined=False)
        return [(True, encoded(label == IGNORE)), (False, encoded(label == 1))]
    angle = np.deg2rad(value.get("rotation", 0))  # clockwise, of a rectangle about its first corner
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    turned = (((outline.reshape(-1, 2) - (x, y)) @ turn + (x, y)).reshape(-1),)
    return [(False, turned, () if "radiusX" in value else (x, y, value["width"], value["height"]))]


def brush_mask(runs: list[int], size: tuple[int, int]) -> np.ndarray:
    """Return the mask of a size (H, W), bool, of ``brush_runs``; a run that begins with 0 has a value for each."""
    bits, at = "".join(f"{byte:08b}" for byte in runs), 0

    def number(length: int) -> int:
        nonlocal at
        at += length
        if at > len(bits):
            raise ValueError("run lengths of a brush are cut short")
        return int(bits[at - length : at], 2)

    total, word = number(32), number(5) + 1
    sizes = [number(4) + 1 for _ in COUNT_BITS]
    parts: list[np.ndarray] = []
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
    tasks = []
    for photo in found.photos:
        place = f"{photo.folder_of_all.name}/{photo.name}"
        entries = [entry for one in photo.objects for entry in _entries(one, photo, found.polygons)]
        prediction = {
            "model_version": found.model,
            "score": sum(one.score for one in photo.objects) / max(len(photo.objects), 1),
            "result": [{"id": f"r{number}", **entry} for number, entry in enumerate(entries)],
        }
        data = {"image": f"/data/local-files/{form.LOCAL_FILES}{quote(place)}"}
        tasks.append(json.dumps({"data": data, "predictions": [prediction]}))
    tag = "PolygonLabels" if found.polygons else "BrushLabels"
    labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in found.categories.values())
    image = '  <Image name="image" value="$image"/>\n'
    config = f'<View>\n{image}  <{tag} name="label" toName="image">\n{labels}  </{tag}>\n</View>\n'
    write_atomically(folder / "config.xml", config)
    write_atomically(folder / "tasks.json", json_list(tasks))


def _entries(found: FoundObject, photo: FoundPhoto, polygons: bool) -> list[dict[str, Any]]:
    """Return an object's entries of ``result``: one stroke, or a polygon for each connected part."""
    kind = "polygonlabels" if polygons else "brushlabels"
    if polygons:
        sides = (photo.width, photo.height)
        values = [{"points": (p / sides * 100).tolist(), "closed": True} for p in found.polygons()]
    else:
        values = [{"format": "rle", "rle": brush_runs(decoded(found.runs))}]
    size = {"original_width": photo.width, "original_height": photo.height}
    common = {"type": kind, "from_name": "label", "to_name": "image", **size, "image_rotation": 0, "score": found.score}
    return [{**common, "value": {**value, kind: [found.name]}} for value in values]


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
    digits = np.frombuffer("".join(bits).encode(), np.uint8) - ord("0")
    return np.packbits(digits).tolist()
