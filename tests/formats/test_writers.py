"""Predictions are written so that pycocotools and this project's own readers give the same pixels back."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle
from pycocotools.coco import COCO

from tests.formats import drawn
from util.formats import coco, recognise, shapes
from util.formats.annotations import Found, FoundObject, FoundPhoto, label_of
from util.formats.labelstudio import brush_runs
from util.formats.shapes import decoded, encoded, polygons_of

H, W = drawn.HEIGHT, drawn.WIDTH
NAMES = {3: "cat", 44: 'a "dog" & co'}
SIMILAR = 0.97  # intersection over union of a mask and its simplified outline


def blobs(seed: int) -> np.ndarray:
    """Return a mask of smooth regions with holes, (H, W) bool."""
    noise = np.random.default_rng(seed).random((H, W)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 5) > 0.5


@pytest.fixture
def photos(tmp_path: Path) -> list[FoundPhoto]:
    """Return two photos: one with two classes, one with nothing."""
    left, right = blobs(1), blobs(1)
    left[:, W // 2 :] = right[:, : W // 2] = False
    found = FoundObject("cat", 0.75, encoded(left)), FoundObject(NAMES[44], 0.5, encoded(right))
    paths = [drawn.photo(tmp_path / "photos" / name) for name in ("a.jpg", "b.jpg")]
    return [FoundPhoto(path, path.name, H, W, some, 0) for path, some in zip(paths, (found, ()), strict=True)]


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


def painted(polygons: list[np.ndarray]) -> np.ndarray:
    return rle.decode(rle.merge(rle.frPyObjects([p.ravel().tolist() for p in polygons], H, W))).astype(bool)


def filled(polygons: list[np.ndarray]) -> np.ndarray:
    """Return what programs paint that know whole coordinates alone."""
    out = np.zeros((H, W), np.uint8)
    for polygon in polygons:
        cv2.fillPoly(out, [polygon.astype(np.int32)], 1)
    return out > 0


@pytest.mark.parametrize("seed", range(4))
def test_outlines_cover_their_mask(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    mask, one = blobs(seed), np.zeros((H, W), bool)
    simple, one[5, 7] = polygons_of(mask), True
    assert iou(painted(simple), mask) > SIMILAR and iou(filled(simple), mask) > SIMILAR
    assert polygons_of(one & False) == [] and np.array_equal(painted(polygons_of(one)), one)
    monkeypatch.setattr(shapes, "TOLERANCE", 0.0)
    noise = np.random.default_rng(seed).random((H, W)) > 0.6  # parts that touch at corners, holes in holes
    for exact in (mask, noise):
        assert np.array_equal(painted(polygons_of(exact)), exact)
    assert sum(map(len, simple)) < sum(map(len, polygons_of(mask))) * 0.7


@pytest.mark.parametrize("polygons", [False, True])
def test_pycocotools_opens_cocos_json(photos: list[FoundPhoto], polygons: bool, tmp_path: Path) -> None:
    coco.write(tmp_path / "out", Found(photos, tmp_path / "photos", NAMES, polygons=polygons))
    opened = COCO(tmp_path / "out/annotations/instances_default.json")
    assert (tmp_path / "out/images/a.jpg").is_file()
    sizes = {i["file_name"]: (i["width"], i["height"]) for i in opened.loadImgs([1, 2])}
    assert sizes == {"a.jpg": (W, H), "b.jpg": (W, H)}
    assert {c["id"]: c["name"] for c in opened.loadCats(opened.getCatIds())} == NAMES
    annotations = opened.loadAnns(opened.getAnnIds())
    assert [(a["image_id"], a["category_id"], a["score"]) for a in annotations] == [(1, 3, 0.75), (1, 44, 0.5)]
    for annotation, want in zip(annotations, photos[0].objects, strict=True):
        mask = opened.annToMask(annotation).astype(bool)
        assert iou(mask, decoded(want.runs)) > (SIMILAR if polygons else 1 - 1e-9)
        pixels = decoded(want.runs)
        assert annotation["area"] == pixels.sum() and isinstance(annotation["segmentation"], list) == polygons
        assert annotation["bbox"] == [*cv2.boundingRect(pixels.astype(np.uint8))]
    assert len(opened.loadRes(annotations).getAnnIds()) == 2


@pytest.mark.parametrize("polygons", [False, True])
@pytest.mark.parametrize("kind", recognise.WRITERS)
def test_what_is_written_is_read_again(photos: list[FoundPhoto], kind: str, polygons: bool, tmp_path: Path) -> None:
    recognise.WRITERS[kind](tmp_path / "out", Found(photos, tmp_path / "photos", NAMES, polygons=polygons))
    # nothing is annotated on the second photo of Label Studio's tasks, and so it is none of them
    names = ["a.jpg"] if kind == "labelstudio" else ["a.jpg", "b.jpg"]
    again = recognise.read(str(tmp_path / "out"), tmp_path / "photos")
    assert recognise.recognise(str(tmp_path / "out"))[0] == kind and [Path(p.name).name for p in again.photos] == names
    assert list(again.categories.values()) == list(NAMES.values())
    exact = kind in ("coco", "labelstudio") and not polygons
    for category, want in zip(again.categories, photos[0].objects, strict=True):
        label = label_of(again.photos[0], again.path_of(again.photos[0]), {category: 1})
        assert iou(label == 1, decoded(want.runs)) > (1 - 1e-9 if exact else SIMILAR)


@pytest.mark.parametrize("whole", [np.trunc, np.round])
def test_yolos_outlines_keep_their_pixels_in_programs_that_fill_whole_coordinates(photos, tmp_path, whole) -> None:
    recognise.WRITERS["yolo"](tmp_path, Found(photos, tmp_path / "photos", NAMES))
    rows = [np.array(row.split(), float) for row in (tmp_path / "labels/a.txt").read_text().splitlines()]
    for number, want in enumerate(photos[0].objects):
        outlines = [whole(row[1:].reshape(-1, 2) * (W, H)) for row in rows if row[0] == number]
        assert iou(filled(outlines), decoded(want.runs)) > SIMILAR


def test_label_studio_gets_its_configuration_local_files_and_strokes(photos: list[FoundPhoto], tmp_path: Path) -> None:
    recognise.WRITERS["labelstudio"](tmp_path, Found(photos, tmp_path / "photos", NAMES, "some model"))
    first, second = json.loads((tmp_path / "tasks.json").read_text())
    assert first["data"]["image"] == "/data/local-files/?d=photos/a.jpg"
    assert second["predictions"] == [{"model_version": "some model", "score": 0.0, "result": []}]
    assert "&amp; co" in (tmp_path / "config.xml").read_text()
    # 24 values, words of 8 bits, sizes of 3, 4, 8 and 16 bits; runs of 4, 12 and 8 values: 255, 0, 255
    bits = f"{24:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}"
    bits += f"100{3:03b}{255:08b}" + f"101{11:04b}{0:08b}" + f"100{7:03b}{255:08b}"
    mask = np.array([[True, False, False], [False, True, True]])
    assert "".join(f"{byte:08b}" for byte in brush_runs(mask)).rstrip("0") == bits.rstrip("0")
