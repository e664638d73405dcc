"""This project's side of every row of ``docs/where_programs_differ.md``."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from annotations.annotation import AnnotatedPhoto, Instance, class_mask, pixels_of
from annotations.labelme import read_annotations
from annotations.labelstudio import brush_mask, brush_runs, instances_of
from annotations.reading import Reading
from model.tensors.ops import bin_means, masked_mean
from util.loop.metrics import class_counts, class_scores

SIDE = 40
SQUARE = (10, 10, 20, 10, 20, 20, 10, 20)
HALF = tuple(coordinate + 0.5 for coordinate in SQUARE)
MOVED = tuple(coordinate + 5 for coordinate in SQUARE)
LARGE = (10, 10, 30, 10, 30, 30, 10, 30)
INNER = (15, 15, 25, 15, 25, 25, 15, 25)
TRIANGLE = (10, 10, 30, 10, 10, 30)
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


def labelme_areas(folder: Path, *labels_and_outlines: tuple[str, tuple[float, ...]]) -> list[int]:
    """Pixels of the classes of a file of labelme."""
    Image.new("RGB", (SIDE, SIDE)).save(folder / "a.jpg")
    shapes = [
        {"label": label, "points": np.reshape(outline, (-1, 2)).tolist(), "shape_type": "polygon"}
        for label, outline in labels_and_outlines
    ]
    content = {"shapes": shapes, "imagePath": "a.jpg", "imageHeight": SIDE, "imageWidth": SIDE}
    (folder / "a.json").write_text(json.dumps(content))
    annotations = read_annotations(folder / "a.json")
    (annotated,) = annotations.photos
    mask = class_mask(annotated, {number: number for number in annotations.categories})
    return np.bincount(mask.ravel(), minlength=2)[1:].tolist()


def brush_with_soft_edge() -> int:
    """Pixels of a brush stroke of four, of opacities 0, 100, 128 and 255, each value written alone."""
    opacities = [0, 100, 128, 255]
    values = [value for opacity in opacities for value in (0, 0, 0, opacity)]
    bits = f"{len(values):032b}" + f"{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    bits += "0" + "01" + f"{len(values) - 1:04b}" + "".join(f"{value:08b}" for value in values)
    padded = bits.ljust(-(-len(bits) // 8) * 8, "0")
    return int(brush_mask([int(padded[i : i + 8], 2) for i in range(0, len(padded), 8)], (1, 4)).sum())


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
    (instance,) = instances_of([entry], (100, 200), Reading(Path("a.json"), Path()))
    (outline,) = instance.shape
    return outline.tolist()


def stroke_with_hole_and_line() -> int:
    """Pixels of a stroke that is written and read: 10 x 10 with a hole of 3 x 3, and a line one pixel wide."""
    mask = np.zeros((20, 20), bool)
    mask[5:15, 5:15] = True
    mask[8:11, 8:11] = False
    mask[2, 3:17] = True
    return int((brush_mask(brush_runs(mask), mask.shape) & mask).sum())


class Means(nn.Module):
    """The operators that exports of methods are made of."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return masked_mean(x, mask), bin_means(x, (3, 3))


def exported_means() -> list[bool]:
    """Whether an exported mean over an empty mask is 0, and exported means over bins are those of torch."""
    x = torch.randn(1, 2, 7, 7, generator=torch.Generator().manual_seed(0))
    exported = torch.export.export(Means(), (x, torch.zeros(1, 1, 7, 7))).module()
    over_mask, over_bins = exported(x, torch.zeros(1, 1, 7, 7))
    return [bool((over_mask == 0).all()), torch.allclose(over_bins, F.adaptive_avg_pool2d(x, 3), atol=1e-6)]


COSINE, SINE = math.cos(math.pi / 6), math.sin(math.pi / 6)
CORNERS = [60, 20, 60 + 40 * COSINE, 20 + 40 * SINE, 60 + 40 * COSINE - 10 * SINE, 20 + 40 * SINE + 10 * COSINE]
CORNERS += [60 - 10 * SINE, 20 + 10 * COSINE]
ROWS: dict[str, tuple[Callable[[Path], Any], Any]] = {
    "a square": (lambda _: [area(SQUARE), area(HALF)], [100, 100]),
    "a triangle": (lambda _: area(TRIANGLE), 190),
    "a polygon of labelme": (lambda folder: labelme_areas(folder, ("cat", SQUARE)), [100]),
    "overlap": (lambda _: areas((SQUARE,), (MOVED,)), [75, 100]),
    "overlap, the smaller first": (lambda _: areas((INNER,), (LARGE,)), [100, 300]),
    "a part within another": (lambda _: areas((LARGE, INNER)), [400]),
    "a hole": (lambda folder: labelme_areas(folder, ("cat", LARGE), ("_background_", INNER)), [300]),
    "two points": (lambda _: areas((SQUARE, (10, 10, 30, 30))), [100]),
    "a soft edge": (lambda _: brush_with_soft_edge(), 3),
    "an absent class": (lambda _: scores(last_row=0)["miou"], 75),
    "an absent class, predicted": (lambda _: scores(last_row=2)["miou"], 75),
    "a turned box": (lambda _: turned_box(), CORNERS),
    "a brush": (lambda _: stroke_with_hole_and_line(), 105),
    "exports": (lambda _: exported_means(), [True, True]),
}


@pytest.mark.parametrize("row", ROWS)
def test_our_side_of_each_row_of_where_programs_differ(tmp_path: Path, row: str) -> None:
    compute, expected = ROWS[row]
    assert compute(tmp_path) == pytest.approx(expected, abs=1e-3)
