"""Label Studio's tasks with predictions: written as brush strokes (exact masks) or as polygons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from util.files import write_atomically
from util.formats.annotations import Found, FoundObject, FoundPhoto
from util.formats.coco import json_list
from util.formats.shapes import decoded

LOCAL_FILES = "/data/local-files/?d="  # Label Studio's address of files on its own machine
CHANNELS = 4  # of a brush stroke: red, green, blue, opacity
WORD_BITS = 8  # of a value
COUNT_BITS = (3, 4, 8, 16)  # a run states in two bits which of these sizes its length has


def write(folder: Path, found: Found) -> None:
    """Write one task with one prediction for each photo, and the labelling configuration that the tasks need."""
    tasks = []
    for photo in found.photos:
        scores = [one.score for one in photo.objects]
        entries = [entry for one in photo.objects for entry in _entries(one, photo, found.polygons)]
        prediction = {
            "model_version": found.model,
            "score": sum(scores) / len(scores) if scores else 0.0,
            "result": [{"id": f"r{number}", **entry} for number, entry in enumerate(entries)],
        }
        tasks.append(json.dumps({"data": {"image": LOCAL_FILES + photo.name}, "predictions": [prediction]}))
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
    common = {
        "type": kind,
        "from_name": "label",
        "to_name": "image",
        "original_width": photo.width,
        "original_height": photo.height,
        "image_rotation": 0,
        "score": found.score,
    }
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
