"""Label Studio's tasks: its JSON export is read, predictions are written as strokes of its brush, which are exact."""

import json
import os
from collections.abc import Iterable, Iterator
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from annotations.annotation import (
    PERSON,
    UPRIGHT,
    Annotations,
    Instance,
    PredictedObject,
    Predictions,
    Shape,
    content_errors,
)
from annotations.photo_files import LOCAL_FILES, possible_names
from annotations.shapes import corners_of, decoded, ellipse_of, encoded, region_in, turned_outline
from util.files.errors import UserError
from util.files.photos import IMAGE_SUFFIXES
from util.files.reading import read_json
from util.files.sizes import check_size
from util.files.writing import write_atomically

BRUSH = "BrushLabels"  # the tag of a labelling configuration that strokes belong to
CHANNELS = 4  # of a brush stroke: red, green, blue, opacity
WORD_BITS = 8  # of a value
OUTLINED = {"rle", "imageDataURL", "points", "radiusX"}  # keys of regions that are no rectangles
COUNT_BITS = (3, 4, 8, 16)  # a run states in two bits which of these sizes its length has


def read_annotations(path: Path, folder: Path | None = None) -> Annotations:
    """Return the annotations of a JSON export, one of each task; of a task that nobody annotated a prediction.

    In a task as it was written here, predictions stand beside what a person confirmed. Predictions are unconfirmed, and
    left out and counted where their photo is not found. Of several it is the first that has regions, of the ground
    truth if there is one. Regions of other tools, such as key points, and those without a label, are left out and
    counted. The photos are found by name in ``folder``, default the file's own. UserError: the file is unreadable or in
    another format, the photo of an annotation is missing, or as ``checked``.
    """
    annotations = Annotations.begin(path, path.parent, folder)
    tasks = read_json(path, "these annotations", "export them again")
    with content_errors(f"{path}: not in Label Studio's JSON form (", "); export it again"):
        if tasks and not any("annotations" in task or "predictions" in task for task in tasks):
            raise ValueError("no task has annotations; choose JSON, not JSON-MIN, which lacks how photos are rotated")
        for number, task in enumerate(tasks, 1):
            name = f"task {task.get('id', number)}"
            with annotations.reading(f"{path}: not in Label Studio's JSON form ({name}: ", "); export it again"):
                _read_task(task, name, annotations)
    return annotations.checked()


def _read_task(task: dict[str, Any], name: str, annotations: Annotations) -> None:
    """Take the annotation of a task, else its prediction; raises as ``read_annotations`` does."""
    finished = [annotation for annotation in task.get("annotations", ()) if not annotation.get("was_cancelled")]
    entries = _regions_of(finished or task.get("predictions", []))
    if not entries:
        return
    try:
        photo = annotations.files.find(_photo_of(task), annotations.source)
    except UserError:
        if finished:
            raise
        annotations.remarks["left out: predictions whose photo is not found"][name] += 1
        return
    size = int(entries[0]["original_height"]), int(entries[0]["original_width"])
    is_upright = task["data"].get(UPRIGHT) is True
    is_as_written = is_upright and not any("id" in annotation for annotation in finished)
    beside = _regions_of(task["predictions"]) if finished and is_as_written else []
    annotations.add(
        photo,
        size,
        chain(
            instances_of(entries, photo.name, size, annotations, confirmed=bool(finished)),
            instances_of(beside, photo.name, size, annotations, confirmed=False),
        ),
        is_upright=is_upright,
    )


def _regions_of(annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the regions, entries of ``result``, of the first annotation that has some; ground truth comes first."""
    for annotation in sorted(annotations, key=lambda annotation: not annotation.get("ground_truth")):
        if entries := [entry for entry in annotation["result"] if "original_width" in entry]:
            return entries
    return []


def _photo_of(task: dict[str, Any]) -> str:
    """Return how a task states its photo: in its data, else as the file that was uploaded.

    ValueError: it has several.
    """
    values = chain.from_iterable(value if isinstance(value, list) else [value] for value in task["data"].values())
    photos = [*filter(_names_photo, values)]
    if len(photos) > 1:
        raise ValueError(f"several photos, {', '.join(photos)}; give each a task of its own")
    return photos[0] if photos else task["file_upload"]


def _names_photo(text: Any) -> bool:
    return isinstance(text, str) and any(name.lower().endswith(IMAGE_SUFFIXES) for name in possible_names(text))


def instances_of(
    entries: list[dict[str, Any]], photo: str, size: tuple[int, int], annotations: Annotations, confirmed: bool
) -> Iterator[Instance]:
    """Yield the instances of a photo's regions, each once for every label; count what has no label or no outline.

    A tool and its labels may be two entries of one region. ValueError, KeyError or TypeError: an entry has another
    form.
    """
    labelled = {entry.get("id") for entry in entries if _labels(entry)}
    for entry in entries:
        shape = _shape(entry, size)
        labels = _labels(entry)
        if shape is None:
            annotations.remarks[f"left out: regions of '{entry['type']}'"][photo] += bool(labels)
        elif labels:
            is_boxed = OUTLINED.isdisjoint(entry["value"])
            for label in dict.fromkeys(labels):
                yield Instance(annotations.category(label), shape, is_boxed, confirmed=confirmed)
        elif entry.get("id") not in labelled:
            annotations.remarks["left out: regions without a label"][photo] += 1


def _labels(entry: dict[str, Any]) -> list[str]:
    """Return the labels of a region's entry; none of other entries."""
    kind = entry["type"]
    value = entry["value"]
    return (value.get(kind) or value.get("labels") or []) if kind.endswith("labels") else []


def _shape(entry: dict[str, Any], size: tuple[int, int]) -> Shape | None:
    """Return the region of an entry on a photo (height, width); None of tools that are not read."""
    value = entry["value"]
    if entry.get("image_rotation"):
        raise ValueError("a photo is rotated there; rotate its file, and mark it anew")
    if "rle" in value:
        return encoded(brush_mask(value["rle"], size))
    if "imageDataURL" in value:
        return encoded(region_in(value["imageDataURL"], size))
    if "points" in value:
        return ((np.array(value["points"], np.float64) / 100 * size[::-1]).reshape(-1),)
    if "radiusX" not in value and "height" not in value:
        return None
    pivot = pixels_in(value, ("x", "y"), size)
    if "radiusX" in value:
        outline = ellipse_of(pivot, *pixels_in(value, ("radiusX", "radiusY"), size))
    else:
        outline = corners_of(*pivot, *(pivot + pixels_in(value, ("width", "height"), size)))
    return (turned_outline(outline, value.get("rotation", 0), pivot),)


def pixels_in(value: dict[str, Any], keys: tuple[str, str], size: tuple[int, ...]) -> np.ndarray:
    """Return two entries of a ``value``, along x and y in percent, in pixels of a photo (height, width), (2,)."""
    return np.array([value[key] for key in keys], np.float64) / 100 * size[::-1]


def brush_mask(runs: list[int], size: tuple[int, int]) -> np.ndarray:
    """Return the mask of a size (H, W), bool, of ``brush_runs``; a run that begins with 0 has a value for each."""
    check_size(*size)
    bits = StringIO("".join(f"{byte:08b}" for byte in bytes([*runs])))

    def number(length: int) -> int:
        return int(bits.read(length), 2)

    stated = number(32)
    word = number(5) + 1
    sizes = [number(4) + 1 for _ in COUNT_BITS]
    pixels = np.zeros((*size, CHANNELS), np.uint8)
    if stated != pixels.size:
        raise ValueError(f"a brush has {stated} values, its photo {pixels.size}")
    rest = pixels.reshape(-1)
    while rest.size:
        is_repeated = number(1)
        length = number(sizes[number(2)]) + 1
        rest[:length] = number(word) if is_repeated else [number(word) for _ in range(length)]
        rest = rest[length:]
    return pixels[:, :, -1] > 0


def write(folder: Path, predictions: Predictions) -> None:
    """Write one task with one prediction for each photo, and the labelling configuration that the tasks need.

    What a person confirmed is an annotation of the task, which states its photo from the folder above that of all
    photos, the document root of Label Studio's local files.
    """
    tasks = []
    for photo in predictions.photos:
        strokes = [(each.by == PERSON, _stroke(each, f"r{number}")) for number, each in enumerate(photo.objects)]
        confirmed = [stroke for is_persons, stroke in strokes if is_persons]
        proposed = [stroke for is_persons, stroke in strokes if not is_persons]
        score = sum(stroke["score"] for stroke in proposed) / max(len(proposed), 1)
        place = quote(os.fsencode(f"{predictions.folder.name}/{photo.name}"))
        tasks.append(
            {
                "data": {"image": f"/data/local-files/{LOCAL_FILES}{place}", UPRIGHT: True},
                "annotations": [{"result": confirmed}] if confirmed else [],
                "predictions": [{"model_version": predictions.model, "score": score, "result": proposed}],
            }
        )
    write_atomically(folder / "config.xml", _labelling_config(predictions.categories.values()))
    write_atomically(folder / "tasks.json", json.dumps(tasks))


def _labelling_config(names: Iterable[str]) -> str:
    """Return the labelling configuration of strokes with its labels, XML."""
    labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in names)
    return (
        '<View>\n  <Image name="image" value="$image"/>\n'
        f'  <{BRUSH} name="label" toName="image">\n{labels}  </{BRUSH}>\n</View>\n'
    )


def _stroke(predicted: PredictedObject, number: str) -> dict[str, Any]:
    """Return the entry of ``result`` for an object."""
    height, width = predicted.runs["size"]
    kind = BRUSH.lower()
    return {
        **{"id": number, "type": kind, "from_name": "label", "to_name": "image", "image_rotation": 0},
        "original_width": width,
        "original_height": height,
        "score": predicted.score,
        "value": {"format": "rle", "rle": brush_runs(decoded(predicted.runs)), kind: [predicted.name]},
    }


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
        for done in range(0, length, 2 ** COUNT_BITS[-1]):
            step = min(length - done, 2 ** COUNT_BITS[-1])
            number = next(i for i, size in enumerate(COUNT_BITS) if step <= 2**size)
            bits.append(f"1{number:02b}{step - 1:0{COUNT_BITS[number]}b}{value}")
    return np.packbits(np.frombuffer("".join(bits).encode(), np.uint8) - ord("0")).tolist()
