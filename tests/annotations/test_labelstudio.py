"""Exports of Label Studio: the photo of a region, the annotation of a task, its tools, and what is not understood."""

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from annotations import labelstudio
from photos.example_files import read_examples
from tests.annotations.drawn import AREAS, CAT, DOG, HEIGHT, WIDTH, areas, corners, photo, refusal, region
from tests.helpers.read import write_json

CATS = {"cat": AREAS["cat"]}
EMBEDDED = {"image": "data:image/png;base64,iVBORw0KGgo="}


def entry(box: tuple[int, ...], label: str | None, **changes: Any) -> dict[str, Any]:
    """Return a polygon about a box as an entry of ``result``."""
    value = {"points": [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in corners(box)]}
    if label is not None:
        value["polygonlabels"] = [label]
    polygon = {
        "type": "polygonlabels",
        "to_name": "image",
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "value": value,
    }
    return polygon | changes


def tasks(folder: Path, data: dict[str, Any], *annotations: dict[str, Any], upload: str = "") -> Path:
    """Write an export with one task, and two photos beside it."""
    for name in ("x0.jpg", "p0.jpg"):
        photo(folder / name)
    task = {"id": 3, "data": data, "annotations": annotations, "file_upload": upload}
    write_json(folder / "p.json", [task])
    return folder / "p.json"


def of_regions(folder: Path, *regions: dict[str, Any]) -> Path:
    """Write an export with one task, whose annotation has these regions."""
    return tasks(folder, {"image": "p0.jpg"}, {"result": regions})


@pytest.mark.parametrize(
    ("data", "upload"),
    [
        ({"image": "https://b.s3.amazonaws.com/f/p0.jpg?X-Amz-Algorithm=A&X-Amz-Date=1", "text": "x0"}, ""),
        ({"image": "/data/local-files/?d=my%20set/p0.jpg"}, ""),
        ({"images": ["/data/upload/3/1a2b3c4d-p0.jpg"]}, ""),
        (EMBEDDED, "0a1b2c3d-p0.jpg"),
        (EMBEDDED | {"file": "p0.jpg"}, "1.json"),
    ],
)
def test_a_task_states_its_photo_in_its_data_or_as_an_upload(tmp_path: Path, data: dict, upload: str) -> None:
    path = tasks(tmp_path, data, {"result": [entry(CAT, "cat")]}, upload=upload)
    (support,), _ = read_examples([str(path)])
    assert (support.photo.name, int(support.read().label.sum())) == ("p0.jpg", AREAS["cat"])


@pytest.mark.parametrize("rotation", [0, 30])
def test_an_ellipse_has_two_radii_and_is_turned_in_pixels(tmp_path: Path, rotation: int) -> None:
    """In percent of a photo of 96 x 72 it would have another shape."""
    radii = {"radiusX": 100 * 30 / WIDTH, "radiusY": 100 * 10 / HEIGHT, "rotation": rotation}
    ellipse = entry(CAT, None, type="ellipselabels", value={"x": 50, "y": 50, "ellipselabels": ["cat"], **radii})
    (support,), _ = read_examples([f"{of_regions(tmp_path, ellipse)}"])
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5 - np.reshape([HEIGHT / 2, WIDTH / 2], (2, 1, 1))
    cosine, sine = np.cos(np.deg2rad(rotation)), np.sin(np.deg2rad(rotation))
    inside = ((x * cosine + y * sine) / 30) ** 2 + ((y * cosine - x * sine) / 10) ** 2 <= 1
    assert (support.read().label != inside).sum() < 0.02 * inside.sum()


@pytest.mark.parametrize("data", [{"image": "x0.jpg", "image2": "p0.jpg"}, {"images": ["x0.jpg", "p0.jpg"]}])
def test_a_task_of_two_photos_is_refused(tmp_path: Path, data: dict) -> None:
    path = tasks(tmp_path, data, {"result": [entry(CAT, "cat", to_name="image2")]})
    assert "task 3: several photos, x0.jpg, p0.jpg; give each a task of its own" in refusal(path)


def test_the_short_form_of_an_export_is_refused(tmp_path: Path) -> None:
    path = tasks(tmp_path, {})
    write_json(path, [{"image": "p0.jpg", "label": [{"points": [[1, 1]]}], "annotation_id": 1, "id": 1}])
    assert "JSON-MIN" in refusal(path)


@pytest.mark.parametrize(
    "first",
    [
        {"result": []},
        {"result": [entry(DOG, "cat")], "was_cancelled": True, "ground_truth": True},
        {"result": [entry(DOG, "cat")]},
    ],
)
def test_the_annotation_of_a_task_is_the_ground_truth_or_the_first_with_regions(tmp_path: Path, first: dict) -> None:
    truth = {"result": [entry(CAT, "cat")], "ground_truth": True}
    assert areas(tasks(tmp_path, {"image": "p0.jpg"}, first, truth)) == CATS


def bitmask(pixels: np.ndarray) -> dict[str, Any]:
    """Return an entry of the bitmask brush, which holds a PNG."""
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    address = f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
    return entry(DOG, None, type="bitmasklabels", value={"imageDataURL": address, "bitmasklabels": ["dog"]})


DOG_PIXELS = 255 * region(DOG)
EMPTY_PIXELS = np.zeros_like(DOG_PIXELS)
FULL_PIXELS = np.full_like(DOG_PIXELS, 255)


@pytest.mark.parametrize(
    "pixels",
    [
        DOG_PIXELS,
        np.dstack([DOG_PIXELS, DOG_PIXELS, DOG_PIXELS, FULL_PIXELS]),  # opaque
        np.dstack([EMPTY_PIXELS, EMPTY_PIXELS, EMPTY_PIXELS, DOG_PIXELS]),  # transparent beside the object
    ],
    ids=["grey", "opaque", "transparent"],
)
def test_the_bitmask_brush_is_read(tmp_path: Path, pixels: np.ndarray) -> None:
    assert areas(of_regions(tmp_path, entry(CAT, "cat"), bitmask(pixels))) == AREAS


def test_unlabelled_regions_and_other_tools_regions_are_counted(tmp_path: Path, capsys) -> None:
    shape = entry(CAT, None, type="polygon", id="r1")
    labels = entry(CAT, None, type="labels", id="r1")  # the second entry of the same region
    labels["value"]["labels"] = ["cat"]
    unlabelled = entry(DOG, None, id="r2")
    vector = entry(
        DOG, None, type="keypointlabels", id="r3", value={"x": 5, "y": 5, "width": 1, "keypointlabels": ["dog"]}
    )
    assert areas(of_regions(tmp_path, shape, labels, unlabelled, vector)) == CATS
    said = capsys.readouterr().err
    assert "regions without a label (1)" in said
    assert "regions of 'keypointlabels' (1)" in said


def test_values_above_0_of_a_brush_are_the_object() -> None:
    opacities = [0, 100, 128, 255]
    values = [value for opacity in opacities for value in (0, 0, 0, opacity)]
    bits = f"{len(values):032b}" + f"{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    bits += "0" + "01" + f"{len(values) - 1:04b}" + "".join(f"{value:08b}" for value in values)
    stroke = [int(f"{byte:0<8}", 2) for byte in re.findall(".{1,8}", bits)]
    assert labelstudio.brush_mask(stroke, (1, 4)).sum() == 3
