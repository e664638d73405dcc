"""Other programs' libraries open what is written, and what they write is read; skipped where they are not installed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.formats.test_writers import SIMILAR, H, W, blobs, found, iou
from util.formats import coco, labelme, labelstudio, recognise, yolo
from util.formats.found import FoundObject, FoundPhoto
from util.formats.painting import label_of
from util.formats.run_lengths import decoded

NAMES = {1: "cat", 2: "dog"}
SUPERVISION, DATUMARO = "supervision", "datumaro"


@pytest.fixture
def photo(tmp_path: Path) -> FoundPhoto:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (W, H)).save(tmp_path / "photos" / "a.jpg")
    mask = blobs(1)
    left, right = mask.copy(), mask.copy()
    left[:, W // 2 :] = right[:, : W // 2] = False
    return FoundPhoto(tmp_path / "photos" / "a.jpg", H, W, (found("cat", left, 0.75), found("dog", right, 0.5)))


def _written(kind: str, photo: FoundPhoto, out: Path) -> Path:
    if kind == "coco":
        coco.write_annotations(out / "a.json", lambda: iter([photo]), lambda p: p.path.name, NAMES)
        return out / "a.json"
    if kind == "yolo":
        yolo.write_photo(out, photo, list(NAMES.values()))
        yolo.write_data_file(out, list(NAMES.values()))
    return out


@pytest.mark.parametrize("kind", ["coco", "yolo"])
def test_supervision_opens(kind: str, photo: FoundPhoto, tmp_path: Path) -> None:
    supervision = pytest.importorskip(SUPERVISION)
    out = _written(kind, photo, tmp_path / "out")
    if kind == "coco":
        opened = supervision.DetectionDataset.from_coco(str(tmp_path / "photos"), str(out), force_masks=True)
    else:
        folders = (str(out / "images"), str(out / "labels"), str(out / "data.yaml"))
        opened = supervision.DetectionDataset.from_yolo(*folders, force_masks=True)
    assert opened.classes == ["cat", "dog"]
    ((_, _, detections),) = list(opened)
    for number, want in enumerate(photo.objects):
        mask = np.any(detections.mask[detections.class_id == number], axis=0)
        # OpenCV's fillPoly, which supervision uses, paints the outline too
        assert iou(mask, decoded(want.runs)) > (0.85 if kind == "yolo" else 1 - 1e-9)


@pytest.mark.parametrize("kind", ["coco", "yolo"])
def test_what_supervision_writes_is_read(kind: str, photo: FoundPhoto, tmp_path: Path) -> None:
    supervision = pytest.importorskip(SUPERVISION)
    photo = photo._replace(objects=tuple(_disc(name, x) for name, x in (("cat", 20), ("dog", 60))))
    masks = np.ascontiguousarray(
        [decoded(o.runs) for o in photo.objects]
    )  # without holes, which it writes as crowd regions
    boxes = np.array([o.box for o in photo.objects], float)
    detections = supervision.Detections(xyxy=boxes, mask=masks, class_id=np.array([0, 1]))
    path = str(photo.path)
    data = supervision.DetectionDataset(classes=["cat", "dog"], images=[path], annotations={path: detections})
    if kind == "coco":
        data.as_coco(annotations_path=str(tmp_path / "set" / "a.json"))
    else:
        folders = {"images_directory_path": "images", "annotations_directory_path": "labels"}
        data.as_yolo(
            **{key: str(tmp_path / "set" / name) for key, name in folders.items()},
            data_yaml_path=str(tmp_path / "set" / "data.yaml"),
        )
    _check(tmp_path / "set", photo, None if kind == "yolo" else photo.path.parent, kind)


def _disc(name: str, x: int) -> FoundObject:
    row, column = np.mgrid[:H, :W]
    return found(name, (row - H / 2) ** 2 + (column - x) ** 2 < 15**2, 0.5)


def _check(path: Path, photo: FoundPhoto, folder: Path | None, kind: str) -> None:
    """Check that a file or folder of a format holds about the photo's masks."""
    found_kind, again = recognise.read(str(path), folder)
    assert found_kind == kind
    (one,) = again.annotated
    ids = {name: number for number, name in again.categories.items()}
    for want in photo.objects:
        label = label_of(one, again.path_of(one), {ids[want.name]: 1}, path)
        assert iou(label == 1, decoded(want.runs)) > 0.85  # its outlines run through the centres of pixels


def test_datumaro_opens_coco(photo: FoundPhoto, tmp_path: Path) -> None:
    datumaro = pytest.importorskip(DATUMARO)
    (tmp_path / "set" / "annotations").mkdir(parents=True)
    (tmp_path / "set" / "images").mkdir()
    _written("coco", photo, tmp_path / "set" / "annotations").rename(
        tmp_path / "set" / "annotations" / "instances_default.json"
    )
    Image.new("RGB", (W, H)).save(tmp_path / "set" / "images" / "a.jpg")
    (item,) = datumaro.Dataset.import_from(str(tmp_path / "set"), "coco_instances")
    masks = [a for a in item.annotations if a.type == datumaro.AnnotationType.mask]
    assert len(masks) == 2
    for annotation, want in zip(sorted(masks, key=lambda a: a.label), photo.objects, strict=True):
        assert np.array_equal(annotation.image.astype(bool), decoded(want.runs))


def test_label_studio_opens_its_strokes(photo: FoundPhoto, tmp_path: Path) -> None:
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    labelstudio.write_tasks(tmp_path, lambda: iter([photo]), lambda p: p.path.name, list(NAMES.values()), "m")
    (task,) = json.loads((tmp_path / "tasks.json").read_text())
    for entry, want in zip(task["predictions"][0]["result"], photo.objects, strict=True):
        values = brush.decode_rle(entry["value"]["rle"])
        assert np.array_equal(np.reshape(values, (H, W, 4))[:, :, 3] == 255, decoded(want.runs))


def test_labelme_opens_its_files(photo: FoundPhoto, tmp_path: Path) -> None:
    label_file = pytest.importorskip("labelme._label_file")
    labelme.write_photo(tmp_path / "out" / "a.json", photo)
    opened = label_file.LabelFile(str(tmp_path / "out" / "a.json"))
    assert {shape["label"] for shape in opened.shapes} == {"cat", "dog"}
    assert (tmp_path / "out" / opened.imagePath).samefile(photo.path) and SIMILAR < 1
