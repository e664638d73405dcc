"""``predict.py`` takes supports from files of annotations, and writes its results in the formats of other programs."""

import csv
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from annotations.shapes import decoded
from tests.annotations import drawn
from tests.helpers.read import json_of, write_json
from util.files.mask_images import read_mask, write_mask


@pytest.fixture
def run(predict, baseline: Path, tmp_path: Path) -> Callable[..., object]:
    """Return a function that predicts with the supports of a COCO file into ``out``, with more words."""
    drawn.coco(tmp_path / "set")

    def call(*words: object, supports: object = tmp_path / "set/coco.json") -> object:
        return predict("--config", baseline, "--supports", supports, "--out", f"{tmp_path}/out", *words)

    return call


ALL_FORMATS = "coco,yolo,labelme,labelstudio,png"


def test_every_format_is_written(run, photos: list[Path], tmp_path: Path) -> None:
    done = run("--query", *photos, "--format", ALL_FORMATS)
    assert (done.code, "3 of 3 photos" in done.output, "photo/s" in done.errors) == (0, True, True), done.errors
    out = tmp_path / "out"
    _check_coco(out, photos)
    _check_files(out, photos)
    places = [task["data"]["image"] for task in json_of(out / "labelstudio/tasks.json")]
    assert places == [f"/data/local-files/?d=JPEGImages/{photo.name}" for photo in photos]
    rows = csv.DictReader((out / "summary.csv").open())
    stated = [(row["photo"], row["class"], int(row["pixels"])) for row in rows]
    classes = [(photo, entry) for photo in photos for entry in json_of(out / f"{photo.stem}.json")["classes"]]
    assert stated == [(str(photo), entry["name"], entry["pixels"]) for photo, entry in classes]


def _check_files(out: Path, photos: list[Path]) -> None:
    """Check that files of labels are there and name their photos."""
    for photo in photos:
        assert (out / "yolo/images" / photo.name).samefile(photo)
        assert (out / f"yolo/labels/{photo.stem}.txt").is_file()
        assert (out / "labelme" / json_of(out / f"labelme/{photo.stem}.json")["imagePath"]).samefile(photo)


def _check_coco(out: Path, photos: list[Path]) -> None:
    """Check that COCO's annotations hold the pixels of the masks."""
    opened = COCO(out / "coco/instances.json")
    assert {number: category["name"] for number, category in opened.cats.items()} == {17: "cat", 18: "dog"}
    mask = read_mask(out / f"{photos[0].stem}_mask.png")
    for annotation in opened.loadAnns(opened.getAnnIds([1])):
        np.testing.assert_array_equal(opened.annToMask(annotation), mask == annotation["category_id"] - 16)


def test_connected_parts_are_objects_on_request(run, photos: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    cow = f"--support=cow={photos[1]}:box=9,9,40,40"
    assert run("--query", photos[0], "--format", "coco", "--instances", cow).code == 0
    marks = json_of(out / "coco/instances.json")["annotations"]
    assert marks and not [*out.glob("*.png")]
    for category, entry in zip((19, 17, 18), json_of(out / f"{photos[0].stem}.json")["classes"], strict=True):
        parts = [mark for mark in marks if mark["category_id"] == category]
        areas, scores = ([mark[key] for mark in parts] for key in ("area", "score"))
        assert sum(areas) == entry["pixels"] == decoded(entry["runs"]).sum()
        if parts:  # without a calibration a score is of the pixels' probability
            assert np.average(scores, weights=areas) == pytest.approx(entry["score"], abs=1e-4)


def test_a_complete_run_is_written_in_other_formats_without_predicting(run, photos: list[Path], tmp_path: Path) -> None:
    words = ("--query", *photos[:2], "--format")
    assert run(*words, "png,labelme").code == 0
    corrected, lost = (tmp_path / f"out/labelme/{photo.stem}.json" for photo in photos[:2])
    write_json(corrected, json_of(corrected) | {"flags": {"checked": True}})
    lost.unlink()
    assert "add --resume" in run(*words, "png,labelme,yolo").error
    done = run(*words, "png,labelme,yolo,coco", "--resume")
    assert done.code == 0
    assert "2 of 2 results are complete" in done.output and "nothing was left to segment" in done.output
    assert json_of(corrected)["flags"] and lost.exists()
    assert (tmp_path / "out/yolo/data.yaml").exists()
    (tmp_path / f"out/{photos[0].stem}_overlay.jpg").unlink()
    assert run(*words, "coco", "--resume").code == 0
    assert len([*(tmp_path / "out").glob("*_mask.png")]) == 2  # of the one that is made again, too
    assert not json_of(corrected)["flags"]  # every format that is there follows its result
    words = ("--query", photos[0], "--format", "coco", "--resume")
    assert run(*words).code == 0
    listed = [image["file_name"] for image in json_of(tmp_path / "out/coco/instances.json")["images"]]
    assert listed == [photo.name for photo in photos[:2]]  # not that of the query
    other = tmp_path / f"out/{photos[1].stem}.json"
    write_json(other, json_of(other) | {"inputs": "of other examples"})
    assert "without 1 photos whose results are of other examples" in run(*words).errors


def test_yolos_numbers_keep_their_meaning(run, photos: list[Path], tmp_path: Path) -> None:
    assert run("--query", photos[0], "--format", "yolo").code == 0
    same_classes = drawn.masks(tmp_path / "masks")
    words = ("--query", photos[1], "--format", "yolo", "--resume")
    assert run(*words, supports=same_classes).code == 0
    (same_classes / "names.txt").write_text("dog\ncat\n")
    assert "was made with other classes" in run(*words, supports=same_classes).error
    (tmp_path / "out/yolo").rename(tmp_path / "yolo")
    (tmp_path / "out/yolo").symlink_to(tmp_path / "yolo")  # as in a folder that somebody sent
    assert "yolo: is a link" in run(*words).error


def test_bad_photos_of_a_folder_are_named_and_passed_over(run, photos: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "queries"
    folder.mkdir()
    (folder / "good.jpg").write_bytes(photos[0].read_bytes())
    (folder / "no photo.jpg").write_bytes(b"text")
    content = photos[1].read_bytes()
    (folder / "cut.jpg").write_bytes(content[: len(content) // 2])
    named = shutil.copy(photos[0], folder / ".named.jpg")
    done = run("--query", folder, named, "--format", "coco")
    assert re.search("2 of 4 photos(?s:.*)2 could not be segmented", done.output) and done.code == 2
    errors = {row["photo"]: row["error"] for row in csv.DictReader((tmp_path / "out/summary.csv").open())}
    assert errors.pop(f"{folder}/good.jpg") == errors.pop(str(named)) == ""
    assert {*errors} == {f"{folder}/cut.jpg", f"{folder}/no photo.jpg"}
    for path, error in errors.items():
        assert f"error: {path}: " in done.errors and Path(path).name in error
    assert len(json_of(tmp_path / "out/coco/instances.json")["images"]) == 2
    shutil.copy(tmp_path / "out/good.json", tmp_path / "out/.1.tmp.good.json")  # of a program that was killed
    (folder / "more.jpg").write_bytes(content)
    for name in ("good_mask.png", "persons/more.png"):
        (tmp_path / "out" / name).unlink(missing_ok=True)
        (tmp_path / "out" / name).mkdir(parents=True)
    done = run("--query", folder, "--format", "coco", "--resume")
    assert (
        "good_mask.png: is a folder where a result" in done.errors
        and "counts as none" not in done.errors
        and "1 of 4 photos" in done.output
    )
    (folder / f"{'b' * 236}.jpg").write_bytes(content)
    assert "its name is too long" in run("--query", folder, "--format", "coco", "--resume").error


def test_masks_by_the_network_are_examples_on_request_alone(run, photos: list[Path], tmp_path: Path) -> None:
    drawn.results(tmp_path / "found")
    words = ("--query", photos[0])
    assert "none of its entries shows an object" in run(*words, supports=tmp_path / "found").error
    done = run(*words, "--unconfirmed", supports=tmp_path / "found")
    assert (done.code, "taken: masks that nobody confirmed" in done.errors) == (0, True)


def test_a_class_that_masks_do_not_name_is_told(run, photos: list[Path], tmp_path: Path) -> None:
    folder = drawn.masks(tmp_path / "masks")
    (folder / "names.txt").unlink()
    write_mask(folder / "a.png", drawn.region(drawn.CAT))
    said = run("--query", photos[0], supports=folder).errors
    assert f"note: {folder}: the class is 'object'; --classes NAME names it" in said
    write_mask(folder / "a.png", 255 * drawn.region(drawn.CAT))
    words = ("--query", photos[1], "--out", tmp_path / "cups", "--classes")
    assert "cup: 1 example" in run(*words, "cup", supports=folder).output
    several = run(*words, "cup,dish", supports=folder).error
    assert f"--classes: {folder} shows one class without a name; give one" in several
