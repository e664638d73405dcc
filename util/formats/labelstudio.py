"""Label Studio's tasks with predictions: written as brush strokes (exact masks) or as polygons."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from util.files import write_atomically
from util.formats.coco import write_list
from util.formats.contours import polygons_of
from util.formats.found import FoundObject, FoundPhoto
from util.formats.run_lengths import decoded

TASKS_FILE, CONFIG_FILE = "tasks.json", "config.xml"
LOCAL_FILES = "/data/local-files/?d="  # Label Studio's address of files on its own machine
CHANNELS = 4  # of a brush stroke: red, green, blue, opacity
OPAQUE = 255
WORD_BITS = 8  # of a value
COUNT_BITS = (3, 4, 8, 16)  # a run states in two bits which of these sizes its length has
PERCENT = 100


def write_tasks(
    folder: Path,
    photos: Callable[[], Iterator[FoundPhoto]],
    names: Callable[[FoundPhoto], str],
    categories: list[str],
    model: str,
    polygons: bool = False,
) -> None:
    """Write one task with one prediction for each photo, and the labelling configuration that the tasks need.

    Args:
        names: gives the name of a photo relative to Label Studio's root of local files.
        model: name of the model that Label Studio shows.
        polygons: write polygons in place of brush strokes.

    Raises:
        WriteError: a file cannot be written.
    """

    def tasks() -> Iterator[dict[str, Any]]:
        for photo in photos():
            scores = [found.score for found in photo.objects]
            entries = [entry for found in photo.objects for entry in _entries(found, photo, polygons)]
            prediction = {
                "model_version": model,
                "score": sum(scores) / len(scores) if scores else 0.0,
                "result": [{"id": f"r{number}", **entry} for number, entry in enumerate(entries)],
            }
            yield {"data": {"image": LOCAL_FILES + names(photo)}, "predictions": [prediction]}

    def write(target: Path) -> None:
        with open(target, "w", encoding="utf-8") as file:
            write_list(file, tasks())

    write_atomically(folder / CONFIG_FILE, _config(categories, polygons))
    write_atomically(folder / TASKS_FILE, write)


def _config(categories: list[str], polygons: bool) -> str:
    """Return the labelling configuration for the classes."""
    tag = "PolygonLabels" if polygons else "BrushLabels"
    labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in categories)
    image = '  <Image name="image" value="$image"/>\n'
    return f'<View>\n{image}  <{tag} name="label" toName="image">\n{labels}  </{tag}>\n</View>\n'


def _entries(found: FoundObject, photo: FoundPhoto, polygons: bool) -> list[dict[str, Any]]:
    """Return an object's entries of ``result``: one stroke, or a polygon for each connected part."""
    mask = decoded(found.runs)
    kind = "polygonlabels" if polygons else "brushlabels"
    if polygons:
        sides = (photo.width, photo.height)
        values = [{"points": (p / sides * PERCENT).tolist(), "closed": True} for p in polygons_of(mask)]
    else:
        values = [{"format": "rle", "rle": brush_runs(mask)}]
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
    borders = np.flatnonzero(np.diff(flat)) + 1
    starts = np.concatenate([[0], borders])
    lengths = np.diff(np.concatenate([starts, [flat.size]])) * CHANNELS
    bits = [f"{flat.size * CHANNELS:032b}", f"{WORD_BITS - 1:05b}", *(f"{size - 1:04b}" for size in COUNT_BITS)]
    longest = 2 ** COUNT_BITS[-1]
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        value = f"{OPAQUE * int(flat[start]):0{WORD_BITS}b}"
        while length:
            step = min(length, longest)
            number = next(i for i, size in enumerate(COUNT_BITS) if step <= 2**size)
            bits.append(f"1{number:02b}{step - 1:0{COUNT_BITS[number]}b}{value}")
            length -= step
    digits = np.frombuffer("".join(bits).encode(), np.uint8) - ord("0")
    return np.packbits(digits).tolist()
