"""Tests of ``prepare.py custom``: a person's own folder or JSON becomes a data set that can be scored."""

import json
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.helpers.paths import REPOSITORY
from tests.prepare.class_trees import save, save_grey, save_photo
from util.config.folds import Fold
from util.config.read import read_config
from util.data.images.read import read_mask
from util.data.lists import image_list as lists
from util.data.lists.index import load_index
from util.data.mini import CLASS_NAMES
from util.formats import recognise
from util.formats.annotations import PredictedObject, PredictedPhoto, Predictions
from util.formats.shapes import encoded
from util.prepare import datasets


@pytest.fixture
def own(mini_root: Path, tmp_path: Path) -> tuple[object, ...]:
    """Return the arguments for a folder of photos and masks with a file of names."""
    (tmp_path / "names.txt").write_text("background\n" + "\n".join(CLASS_NAMES) + "\n")
    masks = mini_root / "SegmentationClassAug"
    return "custom", "--images", mini_root / "JPEGImages", "--masks", masks, "--classes", tmp_path / "names.txt"


def test_masks_become_a_data_set_with_even_folds(prepare, project: Path, own: tuple, tmp_path: Path) -> None:
    """A name that means other classes is refused before anything changes."""
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
    before = {p: p.read_bytes() for p in project.rglob("*") if p.is_file() and "cache" not in p.parts}
    assert prepare(*own, "--name", "toys").code == 0 and {p: p.read_bytes() for p in before} == before
    (tmp_path / "other.txt").write_text("\n".join(reversed(CLASS_NAMES)))
    error = prepare(*own, "--name", "toys", "--classes", tmp_path / "other.txt").error
    assert "made from other files or options" in error
    assert {p: p.read_bytes() for p in before} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--fold", "striped disc,dotted star", "--fold", "dotted star"), "fold_classes"),
        (("--name", "Pascal VOC"), "--name Pascal VOC"),
        (("--name", "pascal"), "reserved:"),
        (("--fold", "striped disk", "--fold", "veined leaf"), "did you mean 'striped disc'"),
        (("--folds", 3, "--fold", "veined leaf"), "--folds 3"),
        (("--images", "nowhere"), "does not exist"),
        (("--masks", "nowhere"), "does not exist"),
        (("--classes", "nowhere"), "cannot read the class names"),
    ],
)
def test_bad_input_is_one_line_and_no_config(prepare, project: Path, own: tuple, change: tuple, message: str) -> None:
    assert message in prepare(*own, "--name", "toys", *change).error
    assert not [p for p in (project / "config").iterdir() if p.stem not in ("model", "encoder", "default", "protocols")]


def test_names_with_spaces_given_folds_and_a_refused_run_that_leaves_nothing(
    prepare, project: Path, own: tuple, mini_root: Path, tmp_path: Path
) -> None:
    photos, masks = tmp_path / "my photos", tmp_path / "my masks"
    shutil.copytree(mini_root / "JPEGImages", photos)
    shutil.copytree(mini_root / "SegmentationClassAug", masks)
    first, *_, bad = sorted(photos.iterdir())
    (masks / f"{first.stem}.png").rename(masks / "my  cat 1.png")
    first.rename(photos / "my  cat 1.jpg")
    words = (*own, "--images", photos, "--masks", masks, "--name", "toys")
    words += ("--fold", "striped disc, dotted star, wavy cross", "--fold", "veined leaf")
    before, content = {*project.rglob("*")}, bad.read_bytes()
    bad.write_bytes(b"no photo")
    assert str(bad) in prepare(*words).error and {*project.rglob("*")} == before
    bad.write_bytes(content)
    assert prepare(*words).code == 0
    assert not list((project / "data").glob(".*")) and not (project / "data/toys/.cache").exists()
    fold = Fold.of(read_config("config/toys/toys_split0_lite0.yaml").data)
    assert fold.novel == (1, 2, 4) and fold.base == (3, 5, 6, 7, 8)
    assert (project / "data/toys/images/my_cat_1.jpg").resolve() == photos / "my  cat 1.jpg"
    assert "my_cat_1" in (project / "data/toys/lists/all.txt").read_text().split()


@pytest.mark.process
def test_another_command_that_makes_the_folder_is_waited_for(prepare, project: Path, own: tuple) -> None:
    code = "import pathlib, util.files as s\n"
    code += "with s.made_aside(pathlib.Path('data/toys'), ''): print(flush=True), input()"
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
    box = [[1, 1, 30, 1, 30, 30, 1, 30]]
    for n in range(24):
        Image.fromarray(np.full((40, 40, 3), n, np.uint8)).save(photos / f"{n}.png")
        images.append({"id": n, "file_name": f"{n}.png", "height": 40, "width": 40})
        marks.append({"id": n, "image_id": n, "category_id": 1 + n % 2, "segmentation": box, "iscrowd": 0})
    names = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog: {x}"}, {"id": 3, "name": "horse"}]
    path, content = tmp_path / "a.json", {"images": images, "annotations": marks, "categories": names}
    path.write_text(json.dumps(content))
    words = ("custom", "--name", "pair", "--images", photos, "--annotations", path, "--folds", 2)
    outcome = prepare(*words)
    assert outcome.code == 0 and "left out, on no image: horse" in outcome.output, outcome.errors
    assert "lists/test.txt has too few of cat (3), dog: {x} (3)" in outcome.output  # for five shots
    assert read_config("config/pair/pair_split0_lite0.yaml").data.classes == ["cat", "dog: {x}"]
    mask = read_mask(project / "data/pair/masks/1.png")  # of category 2
    assert (mask[1:30, 1:30] == 2).all() and not mask[31:].any()
    content["categories"][0]["name"] = "cat\nrun: {folder: /tmp/elsewhere}"
    path.write_text(json.dumps(content))
    assert "is not a name" in prepare(*words, "--name", "other").error
    names[0]["name"] = "cat"
    again = {"images": [*images, {**images[0], "id": 99}], "categories": names}
    path.write_text(json.dumps({**again, "annotations": [*marks, {**marks[1], "id": 99, "image_id": 99}]}))
    assert (
        "joined: photos that are listed more than once (1, such as 0.png)" in prepare(*words, "--name", "joined").errors
    )
    mask = read_mask(project / "data/joined/masks/0.png")
    assert (mask[1:30, 1:30] == 2).all()  # the second entry's, which is later in the file
    many = {"categories": [{"id": c, "name": f"thing {c}"} for c in range(1, 301)], "images": images}
    path.write_text(json.dumps({**many, "annotations": [{**marks[0], "category_id": c} for c in range(1, 301)]}))
    assert "300 classes" in prepare(*words, "--name", "other").error


def test_folders_of_classes_keep_every_class_of_a_photo(
    prepare, project: Path, mini_root: Path, tmp_path: Path
) -> None:
    root, truth = tmp_path / "classes", {}
    for path in sorted((mini_root / "SegmentationClassAug").iterdir()):
        ids = truth[path.stem] = read_mask(path)
        for class_id in np.unique(ids[ids > 0]).tolist():
            photos, masks = (root / CLASS_NAMES[class_id - 1] / part for part in ("images", "masks"))
            photos, masks = (photos, masks) if class_id % 2 else (photos.parent, masks.parent)  # both forms
            save_grey(masks / path.name, ids == class_id)
            photos.mkdir(exist_ok=True)
            shutil.copy(mini_root / f"JPEGImages/{path.stem}.jpg", photos)
    words = ("custom", "--name", "toys", "--images", root, "--masks", root)
    assert prepare(*words).code == 0
    config = read_config("config/toys/toys_split0_lite0.yaml")  # of Sym-Net, which has a base learner
    data, indices = config.data, [load_index(config.data, part, progress=False) for part in ("train", "test")]
    assert len(indices[0]) + len(indices[1]) == sum(len(np.unique(ids[ids > 0])) for ids in truth.values()) > len(truth)
    files = [{path.read_bytes() for path in index.images} for index in indices]
    assert not files[0] & files[1] and len(files[0]) + len(files[1]) == len(truth)
    table = np.array([0, *(1 + data.classes.index(name) for name in CLASS_NAMES)], np.uint8)
    for index in indices:
        for row, name in enumerate(index.names):
            assert np.array_equal(index.pair(row)[1], table[truth[name.split("/")[1]]])
    shutil.copy(next(photos.glob("*.jpg")), photos / "again.jpg")
    shutil.copy(next(masks.glob("*.png")), masks / "again.png")
    name = masks.name if masks == photos else masks.parent.name
    assert f"{name} of" in prepare(*words, "--name", "other").error  # a photo would support itself
    (masks / "again.png").unlink()
    Image.new("L", (7, 9), 255).save(odd := next(masks.glob("*.png")))
    assert f"{odd.name}: is (9, 7)" in prepare(*words, "--name", "other").error


SOURCES = ["masks", "coco", "labelme", "yolo"]


def _annotated(folder: Path, source: str, shown: dict[str, list[int]]) -> tuple[object, ...]:
    """Write photos, the classes of each, 1 cat, 2 dog, 3 cow, and annotations of them; return the command's words.

    A photo of the name ``5 (1)`` is a copy of ``5``.
    """
    names, photos = ["cat", "dog", "cow"], folder / "photos"
    for name in shown:
        save_photo(photos / f"{name}.png", int(name.partition(" ")[0]), (60, 60))
    if source == "masks":
        for name, classes in shown.items():
            mask = np.zeros((60, 60), np.uint8)
            for class_id in classes:
                mask[:, 20 * (class_id - 1) : 20 * class_id] = class_id
            save(folder / f"masks/{name}.png", mask)
        (folder / "names.txt").write_text("\n".join(names[: max(map(max, shown.values()))]))
        given: tuple[object, ...] = ("--masks", folder / "masks", "--classes", folder / "names.txt")
    else:

        def corners(class_id: int) -> PredictedObject:
            inside = np.zeros((60, 60), bool)
            inside[:, 20 * (class_id - 1) : 20 * class_id] = True
            return PredictedObject(names[class_id - 1], 1.0, encoded(inside))

        found = [
            PredictedPhoto(photos / f"{name}.png", f"{name}.png", 60, 60, tuple(map(corners, classes)), 0)
            for name, classes in shown.items()
        ]
        recognise.WRITERS[source](folder / source, Predictions(found, photos, dict(enumerate(names, 1))))
        given = ("--annotations", folder / ("coco/instances.json" if source == "coco" else source))
    return ("custom", "--name", "pets", "--images", photos, *given, "--folds", 2)


def _lists(project: Path) -> dict[str, set[str]]:
    return {path.stem: {*path.read_text().split()} for path in (project / "data/pets/lists").iterdir()}


@pytest.mark.parametrize("source", SOURCES)
def test_copies_of_a_photo_are_on_one_side_of_the_split(prepare, project: Path, tmp_path: Path, source: str) -> None:
    shown = {str(n): [1 + n % 2] for n in range(24)}
    equal = {f"{n} ({i})": shown[str(n)] for n in range(0, 24, 3) for i in (1, 2)}
    other = {f"{n} (3)": [1, 2] for n in range(0, 24, 2)}
    outcome = prepare(*_annotated(tmp_path, source, shown | equal | other))
    assert outcome.code == 0, outcome.errors
    assert "left out: 16 copies of photos, such as 0_(1) of 0" in outcome.output
    assert "with other masks: 12 copies of photos, such as 0_(3) of 0" in outcome.output
    lists = _lists(project)
    assert len(lists["all"]) == 36 and lists["train"] | lists["test"] == lists["all"]
    assert {path.stem for path in (project / "data/pets/masks").iterdir()} == lists["all"]
    train, test = ({name.partition("_")[0] for name in lists[part]} for part in ("train", "test"))
    assert len(test) > 5 and not train & test


def test_copies_among_photos_of_one_class_are_left_out(prepare, project: Path, tmp_path: Path) -> None:
    words = _annotated(tmp_path, "masks", {"1": [1], "1 (1)": [1], "2": [1], "3": [1]})
    outcome = prepare(*words[:-2])
    assert outcome.code == 0 and "left out: 1 copies" in outcome.output
    assert _lists(project)["all"] == {"1", "2", "3"}


def test_a_photo_whose_name_is_no_utf8_or_whose_link_is_broken_is_named(prepare, project: Path, tmp_path: Path) -> None:
    words = _annotated(tmp_path, "masks", {str(n): [1 + n % 2] for n in range(24)})
    for kind in ("photos", "masks"):
        odd = tmp_path / kind / os.fsdecode(b"caf\xe9.png")
        (tmp_path / kind / "3.png").rename(odd)
    assert "caf\\udce9: a list cannot hold a file name" in prepare(*words).error
    (tmp_path / "photos/5.png").unlink()
    (tmp_path / "photos/5.png").symlink_to("gone.png")
    outcome = prepare(*words, "--skip-bad")
    assert outcome.code == 0 and len(_lists(project)["all"]) == 22, outcome.errors
    assert "5.png: this image cannot be read" in outcome.output and "caf" in outcome.output


@pytest.mark.parametrize("source", [*SOURCES, "folders"])
def test_rare_classes_are_left_out_by_name(prepare, project: Path, tmp_path: Path, source: str) -> None:
    shown = {str(n): [1, 2, 3][: 2 + (n < 3)] if n < 20 else [1 + n % 2] for n in range(24)}
    words = _annotated(tmp_path, source if source in SOURCES else "masks", shown)
    if source == "folders":
        for name, classes in shown.items():
            for class_id in classes:
                inside = read_mask(tmp_path / f"masks/{name}.png") == class_id
                save_grey(tmp_path / f"folders/{('cat', 'dog', 'cow')[class_id - 1]}/{name}.png", inside)
        words = (*words[:5], "--masks", tmp_path / "folders", "--folds", 2)
    assert "leave classes out by --skip-rare N" in prepare(*words).error
    assert "no class is on so many photos (at most 22)" in prepare(*words, "--skip-rare", 25).error
    outcome = prepare(*words, "--skip-rare", 4)
    assert outcome.code == 0, outcome.errors
    assert "left out, on fewer than 4 photos: cow (3)" in outcome.output
    data = read_config("config/pets/pets_split0_lite0.yaml").data
    assert sorted(data.classes) == ["cat", "dog"]
    index = load_index(data, "train", progress=False)
    assert index.areas.shape[1] == 3 and (index.areas[:].sum(1) == 3600).all()  # its pixels are background


def test_white_masks_ask_whether_white_is_the_object(prepare, project: Path, tmp_path: Path, monkeypatch) -> None:
    for n in range(4):
        save_photo(tmp_path / f"photos/{n}.png", n, (60, 60))
        save_grey(tmp_path / f"masks/{n}.png", np.indices((60, 60))[0] < 50 + n)
    names = tmp_path / "names.txt"
    names.write_text("crack\n")
    words = "custom", "--images", tmp_path / "photos", "--masks", tmp_path / "masks", "--classes", names, "--name"
    for answer, code in (("", 2), ("n", 2), ("y", 0)):
        terminal = SimpleNamespace(isatty=partial(bool, answer), readline=partial(str, answer))
        monkeypatch.setattr(sys, "stdin", terminal)
        outcome = prepare(*words, "cracks")
        assert outcome.code == code and bool(code) == ("--white-is-object" in outcome.errors)
    data = read_config("config/cracks/cracks_split0_multiprototype_lite0.yaml").data
    assert load_index(data, "test", progress=False).areas[:, 1].tolist() == [60 * (50 + n) for n in range(4)]
    assert prepare(*words, "more", "--white-is-object").code == 0
    assert "folds = 3" in prepare(*words, "parted", "--white-is-object", "--folds", 3).error
    names.write_text("crack\nhole\n")
    assert "do not tell 2 classes apart" in prepare(*words, "both").error


def test_the_recipe_of_the_documents_makes_its_data_set(prepare, project: Path, tmp_path: Path, monkeypatch) -> None:
    recipe, config = re.findall(
        r"^```(?:python|yaml)\n(.*?)^```", (REPOSITORY / "docs/datasets.md").read_text(), re.M | re.S
    )
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/oxfordpet.py").write_text(recipe)
    monkeypatch.setattr(datasets, "__path__", [*datasets.__path__, str(tmp_path / "recipes")])
    (project / "config/oxfordpet").mkdir()
    (project / "config/oxfordpet/oxfordpet.yaml").write_text(config)
    root, trimap = tmp_path / "Pets", np.full((60, 60), 2, np.uint8)
    trimap[:50], trimap[50] = 1, 3
    for part in ("trainval", "test"):
        names = [f"breed_{part}{n}_{c}" for c in range(1, 38) for n in range(2)]
        for name in names:
            save(root / f"annotations/trimaps/{name}.png", trimap)
            save(root / f"images/{name}.jpg", trimap, "RGB")
        lines = "".join(f"{name} {name.rpartition('_')[2]} 1 1\n" for name in names)
        (root / f"annotations/{part}.txt").write_text(f"#Image CLASS-ID SPECIES BREED-ID\n{lines}")
    assert "published 3680: differs" in prepare("oxfordpet", "--root", root).output
    sys.modules.pop("util.prepare.datasets.oxfordpet")
    checked = prepare("check", "config/oxfordpet/oxfordpet_split0_lite0.yaml", "--set", "model.encoder.weights=null")
    assert checked.code == 0 and "oxfordpet: 1 of 1" in checked.output, checked.output
    mask = read_mask(next((project / "data/oxfordpet/masks").iterdir()))
    assert (mask[:50] == 1).all() and (mask[50] == 255).all() and not mask[51:].any()
