"""The photos of a data set of your own: copies, rare classes and odd names, and the split of the others."""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from annotations import recognise
from annotations.annotation import PredictedObject, PredictedPhoto, Predictions
from annotations.shapes import encoded
from datasets.custom import _note_vanishing
from datasets.division import _give_each_side_enough, assign_folds, split
from tests.data.made_lists import list_of
from tests.datasets.class_trees import save, save_grey, save_photo
from tests.datasets.printed import assert_done
from tests.helpers.read import config_of
from util.config.settings import DataSettings
from util.data.lists.index import Index, load_index

SOURCES = ["masks", "coco", "labelme", "yolo"]


PETS = ["cat", "dog", "cow"]


def stripe(class_id: int) -> np.ndarray:
    """Return the pixels (60, 60) bool of a class in each photo that shows it."""
    inside = np.zeros((60, 60), bool)
    inside[:, 20 * (class_id - 1) : 20 * class_id] = True
    return inside


def annotated(folder: Path, source: str, shown: dict[str, Sequence[int]]) -> tuple[object, ...]:
    """Write photos, the classes of each, 1 cat, 2 dog, 3 cow, and annotations of them; return the command's words.

    A photo of the name ``5 (1)`` is a copy of ``5``.
    """
    photos = folder / "photos"
    for name in shown:
        save_photo(photos / f"{name}.png", int(name.partition(" ")[0]), (60, 60))
    given = write_masks(folder, shown) if source == "masks" else write_annotations(folder, source, shown)
    return ("custom", "--name", "pets", "--images", photos, *given, "--folds", 2)


def write_masks(folder: Path, shown: dict[str, Sequence[int]]) -> tuple[object, ...]:
    """Write masks of class ids, with an unknown pixel, and a file of names; return the options that name them."""
    for name, classes in shown.items():
        mask = np.zeros((60, 60), np.uint8)
        for class_id in classes:
            mask[stripe(class_id)] = class_id
        save(folder / f"masks/{name}.png", np.where(np.tri(60, k=-59), np.uint8(255), mask))
    class_count = max(map(max, shown.values()))
    (folder / "names.txt").write_text("\n".join(PETS[:class_count]))
    return "--masks", f"{folder}/masks", "--classes", f"{folder}/names.txt"


def write_annotations(folder: Path, source: str, shown: dict[str, Sequence[int]]) -> tuple[object, ...]:
    """Write annotations in a format; return the option that names them."""
    photos = []
    for name, classes in shown.items():
        objects = tuple(PredictedObject(PETS[class_id - 1], 1.0, encoded(stripe(class_id))) for class_id in classes)
        photos.append(PredictedPhoto(folder / f"photos/{name}.png", f"{name}.png", 60, 60, objects))
    recognise.WRITERS[source](folder / source, Predictions(photos, folder / "photos", dict(enumerate(PETS, 1))))
    return "--annotations", folder / ("coco/instances.json" if source == "coco" else source)


def lists_of(project: Path) -> dict[str, set[str]]:
    return {path.stem: {*path.read_text().split()} for path in (project / "data/pets/lists").iterdir()}


def photos_of_sides(lists: dict[str, set[str]]) -> list[set[str]]:
    """Return the photos to train on and to test, of which copies and versions in a list are."""
    return [{name.partition("_")[0] for name in lists[part]} for part in ("train", "test")]


def _with_copies() -> dict[str, Sequence[int]]:
    """Return the classes on 24 photos, on 16 copies with the same masks and on 12 with others."""
    shown = {str(n): [1 + n % 2] for n in range(24)}
    for n in range(0, 24, 3):
        shown[f"{n} (1)"] = shown[f"{n} (2)"] = shown[str(n)]
    for n in range(0, 24, 2):
        shown[f"{n} (3)"] = [1, 2]
    return shown


@pytest.mark.parametrize("source", SOURCES)
def test_a_photos_copies_are_on_one_side_of_the_split(prepare, project: Path, tmp_path: Path, source: str) -> None:
    outcome = prepare(*annotated(tmp_path, source, _with_copies()))
    assert_done(outcome, "left out: 16 copies of photos, such as 0_(1) of 0")
    assert_done(outcome, "in one list together: 24 photos in 12 groups of copies")
    lists = lists_of(project)
    assert (len(lists["all"]), lists["train"] | lists["test"]) == (36, lists["all"])
    for part in ("train", "test"):
        assert_done(outcome, f"  lists/{part}.txt: {len(lists[part])} images\n")
    assert {path.stem for path in (project / "data/pets/masks").iterdir()} == lists["all"]
    train, test = photos_of_sides(lists)
    assert len(test) > 5 and not train & test


def test_a_photo_whose_name_is_no_utf8_or_whose_link_is_broken_is_named(prepare, project: Path, tmp_path: Path) -> None:
    words = annotated(tmp_path, "masks", {str(n): [1 + n % 2] for n in range(24)})
    for kind in ("photos", "masks"):
        (tmp_path / kind / "3.png").rename(tmp_path / kind / os.fsdecode(b"caf\xe9.png"))
    assert "caf?: a list cannot hold a file name" in prepare(*words).error
    photo = tmp_path / "photos/5.png"
    photo.unlink()
    photo.symlink_to("gone.png")
    assert_done(prepare(*words, "--skip-bad"), "5.png: this photo cannot be read", "caf")
    assert len(lists_of(project)["all"]) == 22


def _masks_in_class_folders(folder: Path, words: tuple[object, ...], shown: dict[str, Sequence[int]]) -> tuple:
    """Write masks in a folder for each class in place of those of class ids; return the command's words."""
    for name, classes in shown.items():
        for class_id in classes:
            save_grey(folder / f"folders/{PETS[class_id - 1]}/{name}.png", stripe(class_id))
    return (*words[:5], "--masks", f"{folder}/folders", "--folds", 2)


@pytest.mark.parametrize("source", [*SOURCES, "folders"])
def test_rare_classes_are_left_out_by_name(prepare, project: Path, tmp_path: Path, source: str) -> None:
    shown = {str(n): [1, 2, 3] if n < 3 else [1, 2] for n in range(20)}
    shown |= {str(n): [1 + n % 2] for n in range(20, 24)}
    if source == "folders":
        words = _masks_in_class_folders(tmp_path, annotated(tmp_path, "masks", shown), shown)
    else:
        words = annotated(tmp_path, source, shown)
    assert "leave classes out by --skip-rare N" in prepare(*words).error
    assert "no class is on so many photos (at most 22)" in prepare(*words, "--skip-rare", 25).error
    assert_done(prepare(*words, "--skip-rare", 4), "left out, on fewer than 4 photos: cow (3)")
    data = config_of("split0", "pets", net="lite0").data
    assert sorted(data.classes) == ["cat", "dog"]
    # Its pixels are background
    assert {*load_index(data, "train", progress=False).areas[:].sum(1)} == {3600 - (source == "masks")}


def in_folders(folder: Path, words: tuple[object, ...], folder_of: dict[str, str]) -> tuple[object, ...]:
    """Move photos and masks into folders of these names; return the command's words."""
    for kind in ("photos", "masks"):
        for name, part in folder_of.items():
            target = folder / kind / part / f"{name}.png"
            target.parent.mkdir(exist_ok=True)
            (folder / kind / f"{name}.png").rename(target)
    return words


FOLDERS = {  # folders of every third photo -> the lists that are made of them
    ("train", "train", "val"): {"train": 16, "test": 8},
    ("training", "test", "valid"): {"train": 8, "validation": 8, "test": 8},
    ("val", "val", "test"): {"train": 18, "test": 6},  # none is to train on: divided anew
}


@pytest.mark.parametrize("folders", FOLDERS)
def test_folders_of_training_and_test_photos_are_kept(prepare, project: Path, tmp_path: Path, folders: tuple) -> None:
    names = [*map(str, range(24))]
    words = annotated(tmp_path, "masks", dict.fromkeys(names, (1, 2)))
    folder_of = dict(zip(names, folders * 8))
    printed = assert_done(prepare(*in_folders(tmp_path, words, folder_of)))
    lists = lists_of(project)
    assert counts_of(lists) == FOLDERS[folders] | {"all": 24}
    is_kept = folders[0] != "val"
    assert ("the parts that folders name are kept" in printed) == is_kept
    assert not is_kept or lists["train"] == {name for name in names if folder_of[name].startswith("train")}
    data = config_of("split0", "pets", net="lite0").data
    assert data.validation_list == ("lists/validation.txt" if "validation" in lists else None)


def counts_of(lists: dict[str, set[str]]) -> dict[str, int]:
    return {part: len(names) for part, names in lists.items()}


def test_parts_that_lack_photos_of_a_class_are_divided_anew(prepare, project: Path, tmp_path: Path) -> None:
    cats, dogs = ([*map(str, numbers)] for numbers in (range(12), range(12, 24)))
    words = annotated(tmp_path, "masks", dict.fromkeys(cats, (1,)) | dict.fromkeys(dogs, (2,)))
    folder_of = dict.fromkeys(cats[:8], "val") | dict.fromkeys(cats[8:] + dogs, "train")
    printed = assert_done(prepare(*in_folders(tmp_path, words, folder_of)))
    assert "(train 16, test 8) are not kept, photos are divided anew: lists/" in printed
    assert counts_of(lists_of(project)) == {"all": 24, "train": 18, "test": 6}


@pytest.mark.parametrize("copied", [2, 24])
def test_versions_of_a_photo_in_two_parts_are_to_train_on(prepare, project: Path, tmp_path: Path, copied: int) -> None:
    shown = dict.fromkeys(map(str, range(24)), (1, 2)) | {f"{n} (1)": (1 + n % 2,) for n in range(copied)}
    words = annotated(tmp_path, "masks", shown)
    for_test = map(str, range(24)) if copied == 24 else ["0", *map(str, range(16, 24))]
    folder_of = dict.fromkeys(shown, "train") | dict.fromkeys(for_test, "test")
    printed = assert_done(prepare(*in_folders(tmp_path, words, folder_of)))
    lists = lists_of(project)
    said = "note: {} groups of copies, versions or frames have photos in several parts: {}"
    if copied == 24:  # none would be left to test on
        assert said.format(24, "so photos are divided anew") in printed
        return
    assert said.format(1, "they are in the first: train, val, test") in printed
    assert {"0", "0_(1)"} <= lists["train"]
    assert lists["test"] == {*map(str, range(16, 24))}


def test_each_side_of_the_split_keeps_two_photos_of_each_class() -> None:
    """A photo is moved only if no class that it shows would lack one then."""
    shown = np.array([[1, 0], [1, 1], [1, 1], [1, 0], [0, 1], [0, 1]], bool)
    is_test = np.array([True, False, False, False, False, False])
    _give_each_side_enough(is_test, shown)
    for photos in (shown[is_test], shown[~is_test]):
        assert photos.sum(0).min() >= 2


def test_each_fourth_photo_by_the_digest_of_its_name_is_to_test() -> None:
    index = list_of(np.full((16, 2), 99), (1,)).index
    by_digest = sorted(range(16), key=lambda row: hashlib.sha256(f"photo{row}".encode()).hexdigest())
    assert split(index, [[row] for row in range(16)])["test"] == sorted(by_digest[3::4])


def test_the_classes_of_a_fold_are_on_as_many_photos_as_those_of_another() -> None:
    """Class a is on eight, b on seven, and so on."""
    index = list_of(np.pad(np.tri(8), ((0, 0), (1, 0))), (1,), pixels=1).index
    assert assign_folds(index, [*"abcdefgh"], 2) == [[*"adeh"], [*"bcfg"]]


@pytest.mark.parametrize("count", [4, 5, 7])
def test_a_class_of_four_photos_has_two_to_test(prepare, project: Path, tmp_path: Path, count: int) -> None:
    """Every photo shows one class: a quarter of four or five for testing would be one."""
    assert_done(prepare(*annotated(tmp_path, "masks", {str(n): [1 + n % 3] for n in range(3 * count)})))
    assert [*Counter(int(name) % 3 for name in lists_of(project)["test"]).values()] == [2, 2, 2]


@pytest.mark.parametrize("has_photo_folders", [False, True])
def test_a_class_whose_name_has_the_word_of_a_part_is_none(
    prepare, project: Path, tmp_path: Path, has_photo_folders: bool
) -> None:
    for n in range(16):
        name = ("test tube", "train bus")[n % 2]
        save_photo(tmp_path / "photos" / (name if has_photo_folders else "") / f"{n}.png", n, (60, 60))
        save_grey(tmp_path / f"masks/{name}/{n}.png", stripe(1))
    words = ("custom", "--name", "pets", "--images", f"{tmp_path}/photos", "--masks", f"{tmp_path}/masks", "--folds", 2)
    printed = assert_done(prepare(*words), "fold 0 tests: test tube", "fold 1 tests: train bus")
    assert "the parts that folders name are kept" not in printed


def test_objects_that_vanish_at_the_network_s_side_are_counted(capsys) -> None:
    areas = np.array([[9, 70, 0], [9, 70, 65], [9, 900, 900]])
    index = Index(tuple("abc"), areas, (), (), "", sizes=np.array([[72, 96], [3000, 4000], [3000, 4000]]))
    lists = {"train_list": "all.txt", "test_list": "all.txt"}
    settings = DataSettings(name="pets", root="", classes=["cat", "dog"], size=353, min_pixels=64, **lists)
    _note_vanishing(settings, index)
    assert "too few for some objects, which vanish: cat (1), dog (1);" in capsys.readouterr().err


def test_too_few_photos_are_refused_in_words_of_the_user(prepare, tmp_path: Path) -> None:
    words = annotated(tmp_path, "masks", {"0": [1, 2]})
    assert "1 annotated photos: too few for a list of training and one of tests; add photos" in prepare(*words).error
