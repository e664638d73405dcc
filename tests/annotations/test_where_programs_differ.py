"""This project's side of every row of ``docs/where_programs_differ.md``."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from annotations.annotation import AnnotatedPhoto, Annotations, Instance, class_mask, pixels_of
from annotations.labelstudio import instances_of
from annotations.photo_files import PhotoFiles
from annotations.region import read_region
from annotations.shapes import encoded
from tests.annotations.drawn import CAT, DOG, coco_json, outline, photo, region
from tests.annotations.drawn import areas as pixels_of_classes
from util.loop.metrics import class_counts, class_scores

SIDE = 40
SQUARE = (10, 10, 20, 10, 20, 20, 10, 20)
HALF = tuple(coordinate + 0.5 for coordinate in SQUARE)
MOVED = tuple(coordinate + 5 for coordinate in SQUARE)
LARGE = (10, 10, 30, 10, 30, 30, 10, 30)
INNER = (15, 15, 25, 15, 25, 25, 15, 25)
TURNED = {"x": 30, "y": 20, "width": 20, "height": 10, "rotation": 30}


def polygon(*outlines: tuple[float, ...]) -> tuple[np.ndarray, ...]:
    return tuple(np.array(outline, np.float64) for outline in outlines)


def area(*outlines: tuple[float, ...]) -> int:
    return int(pixels_of(polygon(*outlines), [SIDE, SIDE]).sum())


def areas(*objects: tuple[tuple[float, ...], ...]) -> list[int]:
    """Pixels of classes 1, 2, ..., an object each."""
    instances = tuple(Instance(number, polygon(*outlines)) for number, outlines in enumerate(objects, 1))
    mask = class_mask(AnnotatedPhoto("a.jpg", SIDE, SIDE, instances), {number: number for number in range(1, 5)})
    return np.bincount(mask.ravel(), minlength=len(objects) + 1)[1:].tolist()


def scores(last_row: int) -> dict[str, Any]:
    """Scores of classes 0, 1, 2 of which the label has 0 and 1, where the prediction's last row is of a class."""
    label = torch.zeros(8, 8, dtype=torch.long)
    label[:4] = 1
    prediction = torch.zeros_like(label)
    prediction[:3] = 1
    prediction[7] = last_row
    return class_scores(class_counts(prediction, label, channels=3).numpy())


def turned_box() -> list[float]:
    """Corners of Label Studio's box, that is turned on a photo of 200 x 100."""
    value = {**TURNED, "rectanglelabels": ["cat"]}
    entry = {"type": "rectanglelabels", "value": value}
    (instance,) = instances_of([entry], "a.jpg", (100, 200), Annotations(Path("a.json"), PhotoFiles(Path())))
    (outline,) = instance.shape
    return outline.tolist()


def pixels_of_tiff(folder: Path) -> int:
    """Pixels of the object in a TIFF with 4 of 64 pixels true, which states that 0 is white."""
    values = np.zeros((8, 8), bool)
    values[:2, :2] = True
    tifffile.imwrite(folder / "a.tif", values)
    return int((read_region(folder / "a.tif")[0] == 1).sum())


def pixels_of_runs(folder: Path) -> dict[str, int]:
    """Pixels of an object of two parts in COCO's run lengths, as a crowd, beside an outline whose iscrowd is 0."""
    photo(folder / "p0.jpg")
    parts = region(DOG) + region((52, 4, 60, 12))
    marks = {"segmentation": [outline(CAT)], "iscrowd": 0}, {"segmentation": encoded(parts), "iscrowd": 1, "area": 0}
    return pixels_of_classes(coco_json(folder, *marks))


COSINE, SINE = math.cos(math.pi / 6), math.sin(math.pi / 6)
CORNERS = [60, 20, 60 + 40 * COSINE, 20 + 40 * SINE, 60 + 40 * COSINE - 10 * SINE, 20 + 40 * SINE + 10 * COSINE]
CORNERS += [60 - 10 * SINE, 20 + 10 * COSINE]


@pytest.mark.parametrize(
    ("row", "case"),
    {
        "a square": (lambda _: [area(SQUARE), area(HALF)], [100, 100]),
        "overlap": (lambda _: areas((SQUARE,), (MOVED,)), [75, 100]),
        "overlap, the smaller first": (lambda _: areas((INNER,), (LARGE,)), [100, 300]),
        "a part within another": (lambda _: areas((LARGE, INNER)), [400]),
        "two points": (lambda _: areas((SQUARE, (10, 10, 30, 30))), [100]),
        "an absent class": (lambda _: scores(last_row=0)["miou"], 75),
        "an absent class, predicted": (lambda _: scores(last_row=2)["miou"], 75),
        "a turned box": (lambda _: turned_box(), CORNERS),
        "a TIFF of tifffile": (pixels_of_tiff, 4),
        "objects and a crowd of run lengths": (pixels_of_runs, {"cat": 1280, "dog": 1440 + 64}),
    }.items(),
)
def test_our_side_of_each_row_of_where_programs_differ(tmp_path: Path, row: str, case: tuple) -> None:
    compute, expected = case
    assert compute(tmp_path) == pytest.approx(expected, abs=1e-3)
