"""Predictions are written so that pycocotools and this project's own readers give the same pixels back."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO

from util.formats import coco, labelstudio, recognise
from util.formats.annotations import Found, FoundObject, FoundPhoto
from util.formats.painting import label_of
from util.formats.shapes import decoded, encoded, polygons_of

H, W = 60, 80
NAMES = {3: "cat", 44: 'a "dog" & co'}
SIMILAR = 0.97  # intersection over union of a mask and its simplified outline


def blobs(seed: int) -> np.ndarray:
    """Return a mask of smooth regions with holes, (H, W) bool."""
    noise = np.random.default_rng(seed).random((H, W)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 5) > 0.5


def found(name: str, mask: np.ndarray, score: float) -> FoundObject:
    y, x = np.nonzero(mask)
    box = (int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1)
    return FoundObject(name, score, int(mask.sum()), box, encoded(mask))


@pytest.fixture
def photos(tmp_path: Path) -> list[FoundPhoto]:
    """Return two photos: one with two classes, one with nothing."""
    (tmp_path / "photos").mkdir()
    mask = blobs(1)
    left, right = mask.copy(), mask.copy()
    left[:, W // 2 :] = right[:, : W // 2] = False
    out = []
    for name, objects in (("a.jpg", [found("cat", left, 0.75), found(NAMES[44], right, 0.5)]), ("b.jpg", [])):
        Image.new("RGB", (W, H)).save(tmp_path / "photos" / name)
        out.append(FoundPhoto(tmp_path / "photos" / name, name, H, W, tuple(objects), 0))
    return out


def unpacked(content: list[int]) -> np.ndarray:
    """Return the values of a stroke of Label Studio's brush, uint8; bit by bit, as its format is defined."""
    bits = "".join(f"{byte:08b}" for byte in content)
    at = 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    total, word = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    out: list[int] = []
    while len(out) < total:
        repeated, count = take(1), take(sizes[take(2)]) + 1
        out += [take(word)] * count if repeated else [take(word) for _ in range(count)]
    return np.array(out, np.uint8)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


def painted(polygons: list[np.ndarray]) -> np.ndarray:
    return rle.decode(rle.merge(rle.frPyObjects([p.ravel().tolist() for p in polygons], H, W))).astype(bool)


@pytest.mark.parametrize("seed", range(8))
def test_outlines_cover_their_mask(seed: int) -> None:
    noise = np.random.default_rng(seed).random((H, W)) > 0.6  # parts that touch at corners, holes in holes
    for mask in (blobs(seed), noise):
        assert np.array_equal(painted(polygons_of(mask, 0)), mask)
    simple = polygons_of(blobs(seed))
    assert iou(painted(simple), blobs(seed)) > SIMILAR
    assert sum(map(len, simple)) < sum(map(len, polygons_of(blobs(seed), 0))) * 0.7
    assert polygons_of(np.zeros((H, W), bool)) == []
    one = np.zeros((H, W), bool)
    one[5, 7] = True
    assert np.array_equal(painted(polygons_of(one)), one)


@pytest.mark.parametrize("polygons", [False, True])
def test_pycocotools_opens_cocos_json(photos: list[FoundPhoto], polygons: bool, tmp_path: Path) -> None:
    path = tmp_path / "out" / "instances.json"
    coco.write(tmp_path / "out", Found(photos, NAMES, polygons=polygons))
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
        assert annotation["area"] == want.area and isinstance(annotation["segmentation"], list) == polygons
        x, y, width, height = annotation["bbox"]
        assert (x, y, x + width, y + height) == want.box
    again = coco.read_annotations(path, tmp_path / "photos")
    assert again.categories == NAMES and len(again.annotated) == 1
    results = opened.loadRes(annotations)
    assert len(results.getAnnIds()) == 2


@pytest.mark.parametrize("kind", ["yolo", "labelme"])
def test_files_of_single_photos_are_read_again(photos: list[FoundPhoto], kind: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    recognise.WRITERS[kind](out, Found(photos, NAMES))
    found_kind, again = recognise.read(str(out))
    assert found_kind == kind and [Path(p.name).name for p in again.photos] == ["a.jpg", "b.jpg"]
    assert list(again.categories.values()) == list(NAMES.values())
    for category, want in zip(again.categories, photos[0].objects, strict=True):
        label = label_of(again.photos[0], again.path_of(again.photos[0]), {category: 1})
        assert iou(label == 1, decoded(want.runs)) > SIMILAR


@pytest.mark.parametrize("whole", [np.trunc, np.round])
def test_yolos_outlines_keep_their_pixels_in_programs_that_fill_whole_coordinates(photos, tmp_path, whole) -> None:
    recognise.WRITERS["yolo"](tmp_path, Found(photos, NAMES))
    rows = [np.array(row.split(), float) for row in (tmp_path / "labels/a.txt").read_text().splitlines()]
    for number, want in enumerate(photos[0].objects):
        outlines = [whole(row[1:].reshape(-1, 2) * (W, H)).astype(np.int32) for row in rows if row[0] == number]
        filled = cv2.fillPoly(np.zeros((H, W), np.uint8), outlines[:1], 1)
        for one in outlines[1:]:
            filled |= cv2.fillPoly(np.zeros((H, W), np.uint8), [one], 1)
        assert iou(filled == 1, decoded(want.runs)) > SIMILAR


@pytest.mark.parametrize("polygons", [False, True])
def test_label_studios_tasks_hold_the_masks(photos: list[FoundPhoto], polygons: bool, tmp_path: Path) -> None:
    labelstudio.write(tmp_path, Found(photos, NAMES, "some model", polygons))
    first, second = json.loads((tmp_path / "tasks.json").read_text())
    assert (
        first["data"]["image"].endswith("/a.jpg")
        and "?d=" in first["data"]["image"]
        and second["predictions"][0]["result"] == []
    )
    kind = "polygonlabels" if polygons else "brushlabels"
    for want in photos[0].objects:
        entries = [e for e in first["predictions"][0]["result"] if e["value"][kind] == [want.name]]
        assert {(e["original_width"], e["original_height"], e["score"], e["type"]) for e in entries} == {
            (W, H, want.score, kind)
        }
        if polygons:
            mask = painted([np.array(e["value"]["points"]) / 100 * (W, H) for e in entries])
        else:
            (entry,) = entries
            mask = unpacked(entry["value"]["rle"]).reshape(H, W, 4)[:, :, 3] == 255
        assert iou(mask, decoded(want.runs)) > (SIMILAR if polygons else 1 - 1e-9)
    assert "&amp; co" in (tmp_path / "config.xml").read_text()
