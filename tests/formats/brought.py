"""Data sets of others: two objects in many forms, and the areas that a reader gives them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from util.predict.regions import BOXED
from util.predict.supports import supports_in

WIDTH, HEIGHT = 96, 72
CAT, DOG = (8, 10, 40, 50), (52, 20, 88, 60)  # x0, y0, x1, y1
AREAS = {"cat": 1280, "dog": 1440}
ORIENTATION, TURNED = 0x0112, 6  # of EXIF; stored turned left


def outline(box: tuple[int, ...]) -> list[float]:
    x0, y0, x1, y1 = box
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def region(*boxes: tuple[int, ...]) -> np.ndarray:
    """Return the class ids of boxes, (H, W) uint8."""
    out = np.zeros((HEIGHT, WIDTH), np.uint8)
    for value, (x0, y0, x1, y1) in enumerate(boxes, 1):
        out[y0:y1, x0:x1] = value
    return out


def photo(path: Path, turned: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif, seed = Image.Exif(), sum(path.name.encode())
    exif[ORIENTATION] = TURNED if turned else 1
    pixels = np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(pixels).save(path, "JPEG", exif=exif)
    return path


def coco(folder: Path, *marks: dict[str, Any], file: str = "p0.jpg", names: tuple[str, ...] = ("cat", "dog")) -> Path:
    """Write one photo and its annotations, of categories 1, 2, ...; the photo is the file's last part."""
    content = {
        "images": [{"id": 7, "file_name": file, "width": WIDTH, "height": HEIGHT}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, 1)],
        "annotations": [{"id": n, "image_id": 7, "category_id": n} | mark for n, mark in enumerate(marks, 1)],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.json").write_text(json.dumps(content))
    return folder / "a.json"


def areas(text: object, photos: Path | None = None) -> dict[str, int]:
    """Return the pixels of each class over all photos."""
    out: dict[str, int] = {}
    for one in supports_in([str(text)], photos)[0]:
        out[str(one.name)] = out.get(str(one.name), 0) + int(np.isin(one.read().label, (1, BOXED)).sum())
    return out
