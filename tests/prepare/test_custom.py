"""Tests of ``prepare.py custom``: a person's own folder or JSON becomes a data set that can be scored."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.paths import REPOSITORY
from util.config.folds import Fold
from util.config.read import read_config
from util.data.images.read import read_mask
from util.data.lists import image_list as lists
from util.data.lists.index import load_index
from util.data.mini import CLASS_NAMES


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project folder with the configs that data sets of one's own inherit from; the current folder."""
    root = tmp_path / "project"
    for part in ("model", "encoder"):
        shutil.copytree(REPOSITORY / "config" / part, root / "config" / part)
    for file in ("default.yaml", "protocols.yaml"):
        shutil.copy(REPOSITORY / "config" / file, root / "config" / file)
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def own(mini_root: Path, tmp_path: Path) -> tuple[object, ...]:
    """Return the arguments for a folder of photos and masks with a file of names."""
    (tmp_path / "names.txt").write_text("background\n" + "\n".join(CLASS_NAMES) + "\n")
    masks = mini_root / "SegmentationClassAug"
    return "custom", "--images", mini_root / "JPEGImages", "--masks", masks, "--classes", tmp_path / "names.txt"


def test_masks_become_a_data_set_with_even_folds(prepare, project: Path, own: tuple) -> None:
    outcome = prepare(*own, "--name", "toys")
    assert outcome.code == 0, outcome.errors
    assert "sh train.sh split0 toys 1" in outcome.output
    config = read_config("config/toys/toys_split1_lite0.yaml")
    data = config.data
    assert sorted(n for fold in data.fold_classes for n in fold) == sorted(CLASS_NAMES)
    assert [len(fold) for fold in data.fold_classes] == [2, 2, 2, 2]
    fold = Fold.of(data)
    assert [data.classes[c - 1] for c in fold.novel] == sorted(data.fold_classes[1], key=data.classes.index)
    train, test = load_index(data, "train", progress=False), load_index(data, "test", progress=False)
    assert len(train) + len(test) == 80 and not set(train.names) & set(test.names)
    assert ((test.areas[:, 1:] > 0).sum(0) > 0).all()  # every class can be tested
    assert len(lists.train_list(train, fold, data).queries) and len(lists.test_list(test, fold, data).queries)


def test_given_folds(prepare, project: Path, own: tuple) -> None:
    folds = ("--fold", "striped disc, dotted star, wavy cross", "--fold", "veined leaf")
    assert prepare(*own, "--name", "toys", *folds).code == 0
    data = read_config("config/toys/toys_split0_lite0.yaml").data
    assert Fold.of(data).novel == (1, 2, 4) and Fold.of(data).base == (3, 5, 6, 7, 8)


def test_a_name_that_means_other_classes_is_refused_before_anything_changes(prepare, project, own, tmp_path) -> None:
    assert prepare(*own, "--name", "toys").code == 0
    before = {p: p.read_bytes() for p in project.rglob("*") if p.is_file() and "cache" not in p.parts}
    assert prepare(*own, "--name", "toys").code == 0 and {p: p.read_bytes() for p in before} == before
    (tmp_path / "other.txt").write_text("\n".join(reversed(CLASS_NAMES)))
    error = prepare(*own, "--name", "toys", "--classes", tmp_path / "other.txt").error
    assert "made from other files or options" in error
    assert {p: p.read_bytes() for p in before} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--name", "toys", "--fold", "striped disc,dotted star", "--fold", "dotted star"), "fold_classes"),
        (("--name", "toys", "--fold", "striped disc"), "fold_classes"),
        (("--name", "Pascal VOC"), "--name Pascal VOC"),
        (("--name", "pascal"), "reserved:"),
        (("--name", "toys", "--fold", "striped disk", "--fold", "veined leaf"), "did you mean 'striped disc'"),
        (("--name", "toys", "--folds", 9), "fold_classes"),
        (("--name", "toys", "--folds", 3, "--fold", "veined leaf"), "--folds 3"),
        (("--name", "toys", "--test-share", 1), "--test-share: 1 is out of range"),
        (("--name", "toys", "--images", "nowhere"), "does not exist"),
        (("--name", "toys", "--masks", "nowhere"), "does not exist"),
        (("--name", "toys", "--classes", "nowhere"), "cannot read the class names"),
    ],
)
def test_bad_input_is_one_line_and_no_config(prepare, project: Path, own: tuple, change: tuple, message: str) -> None:
    assert message in prepare(*own, *change).error
    assert not [p for p in (project / "config").iterdir() if p.stem not in ("model", "encoder", "default", "protocols")]


# --- what a user's folders hold -------------------------------------------------------------------------------------


@pytest.fixture
def copied(own: tuple, mini_root: Path, tmp_path: Path) -> tuple[tuple[object, ...], Path, Path]:
    """Return the arguments for folders that a test may change, and the folders of photos and masks."""
    photos, masks = tmp_path / "my photos", tmp_path / "my masks"
    shutil.copytree(mini_root / "JPEGImages", photos)
    shutil.copytree(mini_root / "SegmentationClassAug", masks)
    return (*own, "--images", photos, "--masks", masks, "--name", "toys"), photos, masks


def _rest(project: Path) -> list[str]:
    """Return what a run has left in the project beside the configs that were there."""
    kept = {"model", "encoder", "default.yaml", "protocols.yaml"}
    left = [p for p in project.rglob("*") if "config" not in p.relative_to(project).parts[:1]]
    return [str(p) for p in [*left, *(p for p in (project / "config").iterdir() if p.name not in kept)]]


def test_file_names_with_spaces(prepare, project: Path, copied) -> None:
    words, photos, masks = copied
    first = sorted(photos.iterdir())[0]
    (masks / f"{first.stem}.png").rename(masks / "my  cat 1.png")
    first.rename(photos / "my  cat 1.jpg")
    assert prepare(*words).code == 0
    assert (project / "data/toys/images/my_cat_1.jpg").resolve() == photos / "my  cat 1.jpg"
    assert "my_cat_1" in (project / "data/toys/lists/all.txt").read_text().split()


def test_a_refused_run_leaves_nothing_and_the_next_one_is_as_the_first(prepare, project: Path, copied) -> None:
    words, photos, _ = copied
    before, bad = _rest(project), sorted(photos.iterdir())[-1]
    content = bad.read_bytes()
    bad.write_bytes(b"no photo")
    assert str(bad) in prepare(*words).error and _rest(project) == before
    bad.write_bytes(content)
    assert prepare(*words).code == 0
    assert not list((project / "data").glob(".*")) and not (project / "data/toys/.cache").exists()


@pytest.mark.process
def test_another_command_that_makes_the_folder_is_waited_for(prepare, project: Path, own: tuple) -> None:
    code = (
        "import pathlib, util.prepare.staging as s\nwith s.alone(pathlib.Path('data/toys')): print(flush=True), input()"
    )
    words, pipe = [sys.executable, "-c", code], subprocess.PIPE
    with subprocess.Popen(words, env={"PYTHONPATH": str(REPOSITORY)}, stdin=pipe, stdout=pipe) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert "data/toys: another command is making it" in prepare(*own, "--name", "toys").error
        other.communicate(b"\n")
    assert prepare(*own, "--name", "toys").code == 0


def test_categories_on_no_image_are_left_out_and_listed(prepare, project: Path, tmp_path: Path) -> None:
    photos, images, marks = tmp_path / "photos", [], []
    photos.mkdir()
    for n in range(24):
        Image.fromarray(np.full((40, 40, 3), n, np.uint8)).save(photos / f"{n}.png")
        images.append({"id": n, "file_name": f"{n}.png", "height": 40, "width": 40})
        box = [[1, 1, 30, 1, 30, 30, 1, 30]]
        marks.append({"id": n, "image_id": n, "category_id": 1 + n % 2, "segmentation": box, "iscrowd": 0})
    names = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog: {x}"}, {"id": 3, "name": "horse"}]
    path, content = tmp_path / "a.json", {"images": images, "annotations": marks, "categories": names}
    path.write_text(json.dumps(content))
    words = ("custom", "--name", "pair", "--images", photos, "--annotations", path, "--folds", 2)
    outcome = prepare(*words)
    assert outcome.code == 0 and "left out, on no image: horse" in outcome.output, outcome.errors
    assert read_config("config/pair/pair_split0_lite0.yaml").data.classes == ["cat", "dog: {x}"]
    mask = read_mask(project / "data/pair/masks/1.png")  # of category 2
    assert (mask[1:30, 1:30] == 2).all() and not mask[31:].any()
    content["categories"][0]["name"] = "cat\nrun: {folder: /tmp/elsewhere}"
    path.write_text(json.dumps(content))
    assert "is not a name" in prepare(*words, "--name", "other").error
    names[0]["name"] = "cat"
    for name, message in (("0.png", "are both 0"), ("../0.png", "file_name '../0.png'")):
        again = {"images": [*images, {**images[0], "id": 99, "file_name": name}], "categories": names}
        path.write_text(json.dumps({**again, "annotations": [*marks, {**marks[1], "id": 99, "image_id": 99}]}))
        assert message in prepare(*words, "--name", "other").error  # a second entry of a photo would cost objects
    many = {"categories": [{"id": c, "name": f"thing {c}"} for c in range(1, 301)], "images": images}
    path.write_text(json.dumps({**many, "annotations": [{**marks[0], "category_id": c} for c in range(1, 301)]}))
    assert "300 classes" in prepare(*words, "--name", "other").error
