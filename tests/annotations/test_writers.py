"""Predictions are written so that pycocotools and this project's own readers give the same pixels back."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle
from pycocotools.coco import COCO

from annotations import coco, recognise, shapes
from annotations.annotation import PredictedObject, PredictedPhoto, Predictions, label_of
from annotations.labelstudio import brush_runs
from annotations.shapes import decoded, encoded, polygons_of
from tests.annotations import drawn
from tests.helpers.read import json_of

H, W = drawn.HEIGHT, drawn.WIDTH
NAMES = {3: "cat", 44: 'a "dog" & co'}
SIMILAR = 0.97  # intersection over union of a mask and its simplified outline


def blobs(seed: int) -> np.ndarray:
    """Return a mask of smooth regions with holes, (H, W) bool."""
    noise = np.random.default_rng(seed).random((H, W)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 5) > 0.5


@pytest.fixture
def photos(tmp_path: Path) -> list[PredictedPhoto]:
    """Return two photos: one with two classes, which is stored upside down, and one with nothing."""
    left, right = blobs(1), blobs(1)
    left[:, W // 2 :] = False
    right[:, : W // 2] = False
    cat = PredictedObject("cat", 0.75, encoded(left), "person")
    dog = PredictedObject(NAMES[44], 0.5, encoded(right), "network")
    first = drawn.photo(tmp_path / "photos/a.jpg", orientation=3)
    second = drawn.photo(tmp_path / "photos/b.jpg")
    return [
        PredictedPhoto(first, first.name, H, W, objects=(cat, dog)),
        PredictedPhoto(second, second.name, H, W, objects=()),
    ]


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


def painted(polygons: list[np.ndarray]) -> np.ndarray:
    """Return what COCO's tools paint."""
    flat = [polygon.ravel().tolist() for polygon in polygons]
    return rle.decode(rle.merge(rle.frPyObjects(flat, H, W))).astype(bool)


def filled(polygons: list[np.ndarray]) -> np.ndarray:
    """Return what programs paint that know whole coordinates alone."""
    values = np.zeros((H, W), np.uint8)
    for polygon in polygons:
        cv2.fillPoly(values, [polygon.astype(np.int32)], 1)
    return values > 0


@pytest.mark.parametrize("seed", range(4))
def test_outlines_cover_their_mask_and_are_exact_where_not_simplified(seed: int, monkeypatch) -> None:
    mask = blobs(seed)
    simplified = polygons_of(mask)
    for paint in (painted, filled):
        assert iou(paint(simplified), mask) > SIMILAR
    monkeypatch.setattr(shapes, "TOLERANCE", 0.0)
    noise = (
        np.random.default_rng(seed).random((H, W)) > 0.6
    )  # single pixels, parts that touch at corners, holes in holes
    for exact in (mask, noise):
        outlines = polygons_of(exact)
        np.testing.assert_array_equal(painted(outlines), exact)
        assert len(np.concatenate(outlines)) > len(np.concatenate(simplified))
    assert polygons_of(mask & ~mask) == []


def test_pycocotools_reads_cocos_json(photos: list[PredictedPhoto], tmp_path: Path) -> None:
    coco.write(tmp_path / "out", Predictions(photos, tmp_path / "photos", NAMES))
    opened = COCO(tmp_path / "out/instances.json")
    assert (tmp_path / "out/images/a.jpg").is_file()
    for number, name in enumerate(("a.jpg", "b.jpg"), 1):
        facts = {"file_name": name, "width": W, "height": H}
        assert opened.imgs[number].items() >= facts.items()
    annotations = opened.loadAnns(opened.getAnnIds())
    for annotation, predicted in zip(annotations, photos[0].objects, strict=True):
        mask = opened.annToMask(annotation)
        np.testing.assert_array_equal(mask, decoded(predicted.runs))
        facts = {"image_id": 1, "score": predicted.score, "area": mask.sum(), "bbox": [*cv2.boundingRect(mask)]}
        assert annotation.items() >= facts.items()
        number = annotation["category_id"]
        assert opened.cats[number]["name"] == NAMES[number] == predicted.name
    assert len(opened.loadRes(annotations).getAnnIds()) == 2


@pytest.mark.parametrize("kind", recognise.WRITERS)
def test_written_annotations_are_read_back(photos: list[PredictedPhoto], kind: str, tmp_path: Path) -> None:
    out = f"{tmp_path}/out"
    recognise.WRITERS[kind](tmp_path / "out", Predictions(photos, tmp_path / "photos", NAMES))
    recognised, _ = recognise.recognise(out)
    assert recognised == kind
    read = recognise.read(out, None if kind == "labelme" else tmp_path / "photos")  # whose files lead to their photos
    assert [*read.categories.values()] == [*NAMES.values()]
    # nothing is annotated on the second photo of Label Studio's tasks, and so it is none of them
    names = ["a.jpg"] if kind == "labelstudio" else ["a.jpg", "b.jpg"]
    assert [Path(photo.name).name for photo in read.photos] == names
    is_exact = kind in ("coco", "labelstudio")
    photo = read.photos[0]
    for category, predicted in zip(read.categories, photos[0].objects):
        label = label_of(photo, read.path_of(photo), {category: 1})
        assert iou(label == 1, decoded(predicted.runs)) > (1 - 1e-9 if is_exact else SIMILAR)
    # rows of YOLO have no place for it, so all of a file are what its least certain one is
    whose = {instance.category: instance.confirmed for instance in photo.instances}
    assert [*whose.values()] == [kind != "yolo", False]


def test_yolos_coordinates_are_exact_to_a_tenth_of_a_pixel(tmp_path: Path) -> None:
    mask = np.zeros((480, 640), bool)
    mask[111:317, 203:455] = True
    path = drawn.photo(tmp_path / "a.jpg")
    photo = PredictedPhoto(path, path.name, *mask.shape, objects=(PredictedObject("cat", 0.5, encoded(mask)),))
    recognise.WRITERS["yolo"](tmp_path / "out", Predictions([photo], tmp_path, {1: "cat"}))
    _, *shares = map(float, (tmp_path / "out/labels/a.txt").read_text().split())
    assert np.abs(np.reshape(shares, (-1, 2)) * (640, 480) - polygons_of(mask)[0]).max() < 0.1


def test_label_studio_gets_its_configuration_and_local_files(photos: list[PredictedPhoto], tmp_path: Path) -> None:
    recognise.WRITERS["labelstudio"](tmp_path, Predictions(photos, tmp_path / "photos", NAMES, "some model"))
    first, second = json_of(tmp_path / "tasks.json")
    assert first["data"]["image"] == "/data/local-files/?d=photos/a.jpg"
    assert second["predictions"] == [{"model_version": "some model", "score": 0.0, "result": []}]
    assert "&amp; co" in (tmp_path / "config.xml").read_text()


def test_strokes_of_label_studios_brush_are_run_lengths_in_bits() -> None:
    mask = np.array([[True, False, False], [False, True, True]])
    head = f"{24:032b}{7:05b}"  # 24 values, words of 8 bits
    sizes = f"{2:04b}{3:04b}{7:04b}{15:04b}"  # of 3, 4, 8 and 16 bits
    runs = f"100{3:03b}{255:08b}" + f"101{11:04b}{0:08b}" + f"100{7:03b}{255:08b}"  # 4, 12 and 8 of 255, 0, 255
    assert "".join(f"{byte:08b}" for byte in brush_runs(mask)).rstrip("0") == (head + sizes + runs).rstrip("0")


@pytest.mark.parametrize("kind", ["labelme", "yolo"])
@pytest.mark.parametrize("keep", [True, False])
def test_files_of_labels_that_are_there_are_kept_where_they_are_to_be(tmp_path: Path, kind: str, keep: bool) -> None:
    path = drawn.photo(tmp_path / "a.jpg")
    corrected = tmp_path / f"out/{'a.json' if kind == 'labelme' else 'labels/a.txt'}"
    corrected.parent.mkdir(parents=True)
    corrected.write_text("corrected")
    photo = PredictedPhoto(path, "a.jpg", H, W, objects=(), keep=keep)
    recognise.WRITERS[kind](tmp_path / "out", Predictions([photo], tmp_path, {1: "cat"}))
    assert (corrected.read_text() == "corrected") == keep
