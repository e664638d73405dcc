"""``predict.py`` takes supports from files of annotations, and writes its results in the formats of other programs."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from tests.formats import drawn
from util.data.images.read import read_mask
from util.formats.shapes import decoded
from util.predict.results import Results


@pytest.fixture
def run(predict, baseline: Path, tmp_path: Path) -> Callable[..., object]:
    """Return a function that predicts with the supports of a COCO file into ``out``, with more words."""
    drawn.coco(tmp_path / "set")

    def call(*words: object, supports: object = tmp_path / "set" / "coco.json") -> object:
        return predict("--config", baseline, "--supports", supports, "--out", tmp_path / "out", *words)

    return call


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_every_format_holds_the_masks(run, photos: list[Path], tmp_path: Path) -> None:
    done, out = run("--query", *photos, "--format", "coco,yolo,labelme,labelstudio,png"), tmp_path / "out"
    assert done.code == 0 and "3 of 3 photos" in done.output and "photo/s" in done.errors, done.errors
    opened, values = COCO(out / "coco" / "instances.json"), {17: 1, 18: 2}
    assert {c["id"]: c["name"] for c in opened.loadCats(opened.getCatIds())} == {17: "cat", 18: "dog"}
    tasks = json.loads((out / "labelstudio" / "tasks.json").read_text())
    places = [task["data"]["image"].rpartition("=")[2] for task in tasks]
    assert places == [f"JPEGImages/{photo.name}" for photo in photos]
    for number, photo in enumerate(photos, 1):
        mask = read_mask(out / f"{photo.stem}_mask.png")
        annotations = opened.loadAnns(opened.getAnnIds([number]))
        assert {values[a["category_id"]] for a in annotations} == set(np.unique(mask)) - {0}
        for annotation in annotations:
            assert np.array_equal(opened.annToMask(annotation), mask == values[annotation["category_id"]])
        assert (out / "yolo/images" / photo.name).samefile(photo) and (out / f"yolo/labels/{photo.stem}.txt").is_file()
        labelme = json.loads((out / "labelme" / f"{photo.stem}.json").read_text())
        assert (out / "labelme" / labelme["imagePath"]).samefile(photo)
    rows = _rows(out / "summary.csv")
    assert [(row["photo"], row["class"]) for row in rows] == [(str(p), c) for p in photos for c in ("cat", "dog")]
    record = json.loads((out / f"{photos[0].stem}.json").read_text())
    assert [int(row["pixels"]) for row in rows[:2]] == [c["pixels"] for c in record["classes"]]


def test_connected_parts_are_objects_on_request(run, photos: list[Path], tmp_path: Path) -> None:
    assert run("--query", photos[0], "--format", "coco", "--instances", "--outlines", "polygons").code == 0
    assert not list((tmp_path / "out").glob("*.png"))
    (found,) = Results(tmp_path / "out", ["cat", "dog"]).found(photos[:1], photos[0].parent)
    record = json.loads((tmp_path / "out" / f"{photos[0].stem}.json").read_text())
    for entry in record["classes"]:
        parts = [o for o in found.objects if o.name == entry["name"]]
        areas = [int(decoded(part.runs).sum()) for part in parts]
        assert sum(areas) == entry["pixels"] == decoded(entry["runs"]).sum()
        weighted = sum(area * part.score for area, part in zip(areas, parts, strict=True))
        assert not parts or weighted / entry["pixels"] == pytest.approx(entry["confidence"], abs=1e-4)
    content = json.loads((tmp_path / "out" / "coco" / "instances.json").read_text())
    assert len(content["annotations"]) == len(found.objects) > 0


def test_a_complete_run_is_written_in_other_formats_without_predicting(run, photos, tmp_path: Path) -> None:
    out, words = tmp_path / "out", ("--query", *photos[:2], "--format")
    assert run(*words, "png,labelme").code == 0
    corrected, lost = (out / "labelme" / f"{photo.stem}.json" for photo in photos[:2])
    corrected.write_text(json.dumps(json.loads(corrected.read_text()) | {"flags": {"checked": True}}))
    lost.unlink()
    assert "add --overwrite" in run(*words, "png,labelme,yolo").error
    done = run(*words, "png,labelme,yolo,coco", "--resume")
    assert done.code == 0 and "2 of 2 results are complete" in done.output and "0 of 0 photos" in done.output
    assert json.loads(corrected.read_text())["flags"] and (out / "yolo" / "data.yaml").exists()
    rows = "".join(f"{photo},{name},rejected\n" for photo in photos[:2] for name in ("cat", "dog"))
    (out / "accepted.csv").write_text(f"photo,class,verdict\n{rows}")  # a review leaves out what it rejects
    assert run(*words, "png,labelme,yolo,coco", "--resume").code == 0
    assert not json.loads((out / "coco" / "instances.json").read_text())["annotations"]
    assert not any(path.read_text() for path in (out / "yolo" / "labels").iterdir())
    assert not json.loads(lost.read_text())["shapes"] and json.loads(corrected.read_text())["flags"]


def test_yolos_numbers_keep_their_meaning(run, photos, tmp_path: Path) -> None:
    assert run("--query", photos[0], "--format", "yolo").code == 0
    words = ("--query", photos[1], "--format", "yolo", "--overwrite")
    assert run(*words, supports=drawn.masks(tmp_path / "m")).code == 0  # the same classes
    (tmp_path / "m" / "names.txt").write_text("dog\ncat\n")
    assert "was made with other classes" in run(*words, supports=tmp_path / "m").error


def test_bad_photos_of_a_folder_are_named_and_passed_over(run, photos, tmp_path: Path) -> None:
    folder = tmp_path / "queries"
    folder.mkdir()
    (folder / "good.jpg").write_bytes(photos[0].read_bytes())
    (folder / "no photo.jpg").write_bytes(b"text")
    content = photos[1].read_bytes()
    (folder / "cut.jpg").write_bytes(content[: len(content) // 2])
    done = run("--query", folder, "--format", "coco")
    assert done.code == 2 and "1 of 3 photos" in done.output and "2 could not be read" in done.output
    for name in ("cut.jpg", "no photo.jpg"):
        assert f"error: {folder / name}: " in done.errors
    rows = {Path(row["photo"]).name: row["error"] for row in _rows(tmp_path / "out" / "summary.csv")}
    assert not rows["good.jpg"] and "cut.jpg: " in rows["cut.jpg"] and "no photo.jpg: " in rows["no photo.jpg"]
    assert len(json.loads((tmp_path / "out" / "coco" / "instances.json").read_text())["images"]) == 1
