"""Tests of the recipes of data sets on small trees in their published layouts: counts, odd files, bad input."""

import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datasets.recipes import fss1000, isic
from datasets.recipes.recipe import classes_of, read_table
from tests.datasets import class_trees as trees
from tests.datasets.class_trees import SIDE, runs, save, save_photo
from tests.datasets.printed import assert_done, list_lines, masks_digest
from tests.helpers.outcome import Outcome
from tests.helpers.read import config_of
from util.config.folds import Fold
from util.config.read import read_data
from util.data.lists.image_list import test_list as list_of_tests
from util.data.lists.index import load_index
from util.data.sampling import EpisodeSampler
from util.files.mask_images import read_mask, write_mask

Made = Callable[..., Outcome]


def test_fss1000(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = trees.fss(tmp_path / "raw/fewshot_data/fewshot_data")
    (tmp_path / "lists/fss1000").mkdir(parents=True)
    for part, part_names in names.items():
        (tmp_path / f"lists/fss1000/{part}.txt").write_text("\n".join(part_names))
    monkeypatch.setattr(fss1000, "REPOSITORY", tmp_path)
    out = tmp_path / "data"
    assert_done(made("fss1000", f"{tmp_path}/raw"), "test: 30, published 2400: differs")
    assert [name for name, *_ in list_lines(out)[:3]] == [f"abe's_flyingfish/{n}" for n in (1, 10, 2)]
    assert "assult_rifle/1" in (out / "lists/train.txt").read_text()
    assert_ids_of_fss(out, "test", range(761, 1001))
    assert_ids_of_fss(out, "validation", range(521, 761))
    assert_ids_of_fss(out, "train", range(1, 521))
    assert read_mask(out / "masks/bus/3.png").any()
    assert "is made already" in made("fss1000", f"{tmp_path}/raw").output


def test_a_folder_without_photos_is_named(made: Made, tmp_path: Path) -> None:
    assert f"--root {tmp_path}/gone: no photo of isic was found" in made("isic", f"{tmp_path}/gone").error


def assert_ids_of_fss(out: Path, part: str, ids: range) -> None:
    """Check that the class ids of a list are those of its masks' classes, and some of those of its part."""
    classes = classes_of("fss1000")
    for name, number, _ in list_lines(out, part):
        class_name, _ = name.split("/")
        assert classes[int(number) - 1] == class_name
        assert int(number) in ids


@pytest.fixture
def isic_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a small ISIC; the recipe knows no other photos."""
    root = trees.isic(tmp_path / "raw")
    known = {path.stem for path in root.rglob("*.jpg")}
    rows = [row for row in isic.read_table(isic.CLASSES) if row["ID"] in known]
    monkeypatch.setattr(isic, "read_table", lambda name: rows)
    return root


def test_isic(made: Made, isic_root: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    assert_done(made("isic", isic_root), "nevus: 2, published 1867: differs")
    assert [number for _, number, _ in list_lines(out)] == ["1", "1", "2", "2", "3", "3"]
    assert {read_mask(path).shape for path in (out / "masks").rglob("*.png")} == {(SIDE, SIDE)}


def test_a_photo_that_is_there_twice_is_refused(made: Made, isic_root: Path) -> None:
    photo = next(isic_root.rglob("*.jpg"))
    (isic_root / "copy").mkdir()
    shutil.copy(photo, isic_root / "copy")
    assert f"are both {photo.stem}" in made("isic", isic_root).error


def test_chest_xray(made: Made, tmp_path: Path) -> None:
    trees.chest(tmp_path / "raw/Lung Segmentation")
    out = tmp_path / "data"
    said = ("shenzhen: 3, published 566: differs", "photos without a mask, left out: 1")
    assert_done(made("chestxray", f"{tmp_path}/raw"), *said)
    lines = list_lines(out)
    assert (len(lines), len(list_lines(out, "shenzhen"))) == (5, 3)
    assert lines[-1][0] == "MCUCXR_0002_1"  # its mask has no suffix


def test_deepglobe_in_both_layouts(made: Made, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for form, out in (("test", first), ("filter_mask", second)):
        trees.deepglobe(tmp_path / form, form)
        assert_done(made("deepglobe", tmp_path / form, "--out", out), "test: 3, published 5666: differs", "urban: 2")
    assert list_lines(first)[0] == ["1/1000_sat_00", "1", "1000_sat_00.jpg"]
    assert (list_lines(first), masks_digest(first)) == (list_lines(second), masks_digest(second))


def test_a_folder_with_other_files_is_left_alone(made: Made, tmp_path: Path) -> None:
    file = tmp_path / "data/lists/mine.txt"
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    assert "holds other files" in made("chestxray", trees.chest(tmp_path / "raw")).error
    assert file.exists()


LVIS_SHAPES = ([[4.0, 4.0, 20.0, 4.0, 20.0, 20.0, 4.0, 20.0]], runs(slice(0, 8), slice(0, 8)))


def write_lvis(root: Path) -> None:
    """Write six photos, on which classes 1 to 22 are marked with two shapes each: 1 on two, 5 on one, others on all."""
    photos = {number: f"{'train' if number == 2 else 'val'}2017/{number:012}.jpg" for number in range(1, 7)}
    for seed, name in photos.items():
        save_photo(root / "coco" / name, seed)
    shown = {class_id: [*photos] for class_id in range(1, 23)}
    shown[1] = [1, 2]
    shown[5] = [1]
    (root / "lvis_val.pkl").write_bytes(pickle.dumps(benchmark_content(photos, shown)))


def benchmark_content(photos: dict[int, str], shown: dict[int, list[int]]) -> dict[int, dict[str, Any]]:
    """Return what the benchmark's file holds of photos by number; ``shown``: the numbers of those that show a class."""
    annotations = [{"segmentation": shape} for shape in LVIS_SHAPES]
    content = {}
    for class_id, numbers in shown.items():
        content[class_id] = {photos[number]: {"annotations": annotations} for number in numbers}
    return content


def test_lvis_has_other_folds_for_five_shots(made: Made, tmp_path: Path) -> None:
    write_lvis(tmp_path / "LVIS")
    said = ("classes: 20, published 920: differs", "ids of the classes, lists/lvis92i/classes.csv: differ")
    assert_done(made("lvis92i", f"{tmp_path}/LVIS"), *said)
    assert len(list_lines(tmp_path / "data")) == 2 + 19 * 6
    mask = read_mask(tmp_path / "data/masks/1/000000000002.png")
    assert (mask[:8, :8].sum(), mask[10, 10], mask[30, 30]) == (64, 1, 0)
    data = read_data(tmp_path / "config/lvis92i/lvis92i.yaml")
    assert (data.classes[5], data.class_photos) == ("lvis_7", [2, *[6] * 19])
    five_shots = replace(data, shot=5)
    assert [Fold.of(replace(data, fold=fold)).novel for fold in (0, 1)] == [(1, 11), (2, 12)]
    # 19 classes are left: one a fold, the rest is dropped
    assert [Fold.of(replace(five_shots, fold=fold)).novel for fold in (0, 1)] == [(2,), (3,)]
    index = load_index(data, "test", progress=False)
    images = list_of_tests(index, Fold.of(data), data)
    assert images.digest != list_of_tests(index, Fold.of(five_shots), five_shots).digest


def perseg_tree(root: Path) -> None:
    """Two objects of three and two photos: palette masks, one grey mask of 255."""
    for name, number in (("dog", 0), ("dog", 1), ("dog", 2), ("cat", 0), ("cat", 1)):
        save_photo(root / f"data/Images/{name}/{number:02}.jpg", number)
        path = root / f"data/Annotations/{name}/{number:02}.png"
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[4:12, 6:14] = 1
        if (name, number) == ("dog", 2):
            save(path, 255 * mask)
        else:
            write_mask(path, mask)
    for folder in ("Images", "Images/dog", "Annotations/cat"):
        (root / "data" / folder / ".DS_Store").write_bytes(b"x")


def test_perseg(made: Made, tmp_path: Path) -> None:
    root = tmp_path / "run2000"  # "00" in the path of every photo
    out = tmp_path / "data"
    perseg_tree(root)
    assert_done(made("perseg", root))
    named = [("cat/00", "1"), ("cat/01", "1"), ("dog/00", "2"), ("dog/01", "2"), ("dog/02", "2")]
    assert list_lines(out) == [[name, number, f"{name}.jpg"] for name, number in named]
    assert [read_mask(out / f"masks/{name}.png").sum() for name, _ in named] == [64] * 5
    for ending in ("cat/01.JPG", "dog/01.jpeg"):
        photo = root / "data/Images" / ending
        photo.with_suffix(".jpg").rename(photo)
    Image.new("L", (SIDE, SIDE)).save(root / "data/Annotations/dog/02.png")  # is left out
    shutil.rmtree(out)
    assert_done(made("perseg", root), "1 masks show no pixel")
    assert len(list_lines(out)) == 4


def test_each_perseg_photo_is_a_query_with_photo_00_as_support(made: Made, tmp_path: Path) -> None:
    perseg_tree(tmp_path / "PerSeg")
    assert_done(made("perseg", f"{tmp_path}/PerSeg"))
    data = read_data(tmp_path / "config/perseg/perseg.yaml")
    images = list_of_tests(load_index(data, "test", progress=False), Fold.of(data), data)
    sampler = EpisodeSampler(images, "pairs", 1, 0, first=True)
    assert len(sampler.pairs) == 3
    episodes = [sampler(number) for number in range(3)]
    names = images.index.names
    assert [names[episode.query] for episode in episodes] == ["cat/01", "dog/01", "dog/02"]
    assert [names[episode.supports[0]] for episode in episodes] == ["cat/00", "dog/00", "dog/00"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda d: (d / "Images/dog/00.jpg").rename(d / "Images/dog/09.jpg"), "00"),
        (lambda d: (d / "Annotations/dog/01.png").unlink(), "01.png"),
        (lambda d: (d / "Images/dog/01.jpg").unlink(), "01.jpg"),
        (
            lambda d: [p.unlink() for k in ("Images", "Annotations") for p in d.glob(f"{k}/cat/01*")],
            "with its mask and at least one more",
        ),
        (lambda d: Image.new("L", (9, 9), 255).save(d / "Annotations/dog/02.png"), "different sizes"),
        (lambda d: Image.new("L", (SIDE, SIDE)).save(d / "Annotations/dog/00.png"), "shows no pixel of the object"),
        (lambda d: (d / "Annotations/cat").rename(d / "Annotations/cow"), "cat"),
    ],
)
def test_incomplete_perseg_folders_are_refused(
    made: Made, tmp_path: Path, change: Callable[[Path], Any], told: str
) -> None:
    perseg_tree(tmp_path / "PerSeg")
    change(tmp_path / "PerSeg/data")
    done = made("perseg", f"{tmp_path}/PerSeg")
    assert told in done.error and done.errors.count("error: ") == 1
    assert not (tmp_path / "data/lists").exists() and not (tmp_path / "config/perseg").exists()


def test_part_data_sets_have_published_classes_and_episodes_by_fold() -> None:
    assert [len(read_table(f"{name}/classes.csv")) for name in ("pascal_part", "lvis92i")] == [56, 920]
    episodes = "protocols.matcher.episodes=[2500, 959, 2500, 2500]"
    config = config_of("split1", "pascal", "multiprototype", overrides=[episodes])
    assert config.protocols["matcher"].number(config.data.fold) == 959
