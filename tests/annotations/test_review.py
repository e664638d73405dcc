"""Verdicts of a review are on masks: they hold in copies, and not once a mask has changed, whatever times say."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotations.annotation import PredictedObject, PredictedPhoto, Predictions
from annotations.labelme import write
from annotations.results import mask_digest, read_annotations
from annotations.shapes import encoded
from util.files.mask_images import write_mask

H, W = 20, 30
MASK = np.zeros((H, W), np.uint8)
MASK[4:12, 5:17] = 1


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Return a folder of the results of three photos, each with a mask of the class cat."""
    folder = tmp_path / "results"
    for name in "abc":
        Image.new("RGB", (W, H)).save(tmp_path / f"{name}.png")
        folder.mkdir(exist_ok=True)
        write_mask(folder / f"{name}_mask.png", MASK)
        rows = [{"name": "cat", "value": 1, "runs": encoded(MASK == 1), "score": 1.0, "pixels": int(MASK.sum())}]
        record = {"query": f"{name}.png", "query_file": None, "height": H, "width": W, "classes": rows}
        (folder / f"{name}.json").write_text(json.dumps(record | {"mask": f"{name}_mask.png"}))
    return folder


def save(folder: Path, *rows: str, name: str = "accepted.csv", columns: str = "photo,class,verdict") -> None:
    """Write a file of verdicts that is older than all results."""
    (folder / name).write_text("".join(f"{row}\n" for row in (columns, *rows)))
    os.utime(folder / name, (0, 0))


def labelled(folder: Path) -> str:
    """Return the names of the photos that keep an object."""
    photos = read_annotations(folder, folder.parent).photos
    return "".join(Path(photo.name).stem for photo in photos if photo.instances)


WHOLE = "photo,class,verdict,mask,saved"
ON_MASK = mask_digest(encoded(MASK == 1))


def test_a_verdict_is_on_the_mask_that_was_judged(results: Path, capsys) -> None:
    rows = [f"{name}.png,cat,rejected,{ON_MASK},2026-11-27T10:00:00Z" for name in "ab"]
    save(results, *rows, columns=WHOLE)
    assert labelled(results) == "c"
    assert capsys.readouterr().err == ""
    write_mask(results / "a_mask.png", np.roll(MASK, 1))  # as it is corrected in another program
    write_mask(results / "b_mask.png", MASK)
    assert labelled(results) == "ac"
    assert "verdicts on masks that have changed since, which do not count: 1 (1 rejected)" in capsys.readouterr().err


def test_verdicts_without_their_masks_digest_are_taken_and_counted(results: Path, capsys) -> None:
    save(results, "a.png,cat,rejected", "b.png,cat,accepted")
    assert labelled(results) == "bc"
    assert "verdicts that do not say on which mask they are, which count: 2 (1 rejected)" in capsys.readouterr().err


def test_of_several_files_the_one_that_was_saved_last_counts(results: Path) -> None:
    save(results, f"a.png,cat,rejected,{ON_MASK},2026-11-27T10:00:00Z", columns=WHOLE)
    save(results, f"b.png,cat,rejected,{ON_MASK},2026-11-27T11:00:00Z", columns=WHOLE, name="accepted (1).csv")
    save(results, "c.png,cat,rejected", name="accepted (2).csv")
    assert labelled(results) == "ac"


def test_rejections_of_all_undated_review_files_are_taken(results: Path, capsys) -> None:
    save(results, "a.png,cat,rejected", "b.png,cat,accepted")
    save(results, "a.png,cat,accepted", "b.png,cat,rejected", name="accepted (1).csv")
    assert labelled(results) == "c"
    assert "2 files of verdicts do not say when they were saved" in capsys.readouterr().err


def test_a_file_of_labels_is_corrected_if_its_content_is(tmp_path: Path, capsys) -> None:
    """Whatever its time is, as after a copy; a file of which nothing is known is kept too."""
    for name in "abc":
        Image.new("RGB", (W, H)).save(tmp_path / f"{name}.png")

    def written(*names: str, objects: int) -> None:
        found = (PredictedObject("cat", 0.5, encoded(MASK == 1)),) * objects
        photos = [PredictedPhoto(tmp_path / f"{name}.png", f"{name}.png", H, W, found, keep=True) for name in names]
        write(tmp_path / "labelme", Predictions(photos, tmp_path, {1: "cat"}))

    def shapes() -> list[int]:
        return [len(json.loads((tmp_path / f"labelme/{name}.json").read_text())["shapes"]) for name in "abc"]

    written("a", "b", objects=1)
    (tmp_path / "labelme/a.json").write_text('{"shapes": [1, 2, 3]}')
    (tmp_path / "labelme/c.json").write_text('{"shapes": [1, 2]}')
    for name, time in (("a", 0), ("b", 2e9), ("c", 0)):
        os.utime(tmp_path / f"labelme/{name}.json", (time, time))
    written("a", "b", "c", objects=0)
    assert shapes() == [3, 0, 2]
    assert "files that were corrected, which stay: 2" in capsys.readouterr().err
