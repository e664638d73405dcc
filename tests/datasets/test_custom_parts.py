"""Masks of a data set of your own in folders: of parts of a set, of classes, and of days or videos."""

from pathlib import Path

import numpy as np
import pytest

from datasets.custom_masks import from_masks
from datasets.custom_plan import CustomOptions
from datasets.make import run_jobs
from tests.annotations.drawn import AREAS, CAT, DOG, HEIGHT, WIDTH, index_mask, photo, region
from tests.datasets.class_trees import save_grey, save_photo
from tests.datasets.printed import list_lines
from util.files.errors import UserError
from util.files.mask_images import read_mask

WHOLE = [0, AREAS["cat"], AREAS["dog"]]


def made(root: Path, images: str = "", masks: str = "", named: bool = True) -> dict[str, list[int]]:
    """Return the pixels of each class in each mask that prepare.py makes, by the mask's name."""
    (root / "names.txt").write_text("cat\ndog\n")
    names = root / "names.txt" if named else None
    plan = from_masks(CustomOptions(images=root / images, masks=root / masks, classes=names))
    out = root.with_name(f"{root.name}_out")
    run_jobs(plan, out, skip_bad=False)
    areas = {}
    for name, *_ in list_lines(out, "all"):
        mask = read_mask(out / f"masks/{name}.png")
        areas[name] = [0, *(int((mask == value).sum()) for value in (1, 2))]
    return areas


def both(path: Path, *boxes: tuple[int, ...]) -> None:
    """Write a mask of boxes, by default of cat and dog."""
    path.parent.mkdir(parents=True, exist_ok=True)
    index_mask(path, region(*(boxes or (CAT, DOG))))


LAYOUTS = {  # of a part -> the folders of its photos and of its masks; then those that the command names
    "mmsegmentation": ("img_dir/{}", "ann_dir/{}", "img_dir", "ann_dir"),
    "parts first": ("{}/images", "{}/masks", "", ""),
    "kaggle": ("{}_images", "{}_masks", "", ""),
    "one folder of photos": ("images", "labels/{}", "images", "labels"),
    "all named by their root": ("images/{}", "labels/{}", "", ""),
    "mixed": ("{}", "{}", "", ""),
    "years": ("photos/{}2017", "annotations/{}2017", "photos", "annotations"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("parts", [("train", "val"), ("training", "validation"), ("test", "valid")])
def test_parts_of_a_set_are_no_classes(tmp_path: Path, layout: str, parts: tuple[str, str]) -> None:
    photos, masks, *named = LAYOUTS[layout]
    for number, part in enumerate(parts):
        photo(tmp_path / photos.format(part) / f"{number}.jpg")
        both(tmp_path / masks.format(part) / f"{number}.png")
    assert made(tmp_path, *named) == {"0": WHOLE, "1": WHOLE}
    with pytest.raises(UserError, match=rf"{parts[0]}.*are parts of a set, no classes; add --classes"):
        made(tmp_path, *named, named=False)


@pytest.mark.parametrize("layout", ["mmsegmentation", "parts first", "kaggle", "mixed"])
def test_equal_names_in_two_parts_are_two_photos(tmp_path: Path, layout: str) -> None:
    photos, masks, *named = LAYOUTS[layout]
    for part, boxes in (("train", (CAT,)), ("val", (CAT, DOG))):
        photo(tmp_path / photos.format(part) / "0.jpg")
        both(tmp_path / masks.format(part) / "0.png", *boxes)
    (first, of_first), (last, of_last) = sorted(made(tmp_path, *named).items())
    assert ("train" in first, "val" in last) == (True, True)
    assert (of_first, of_last) == ([0, AREAS["cat"], 0], WHOLE)


@pytest.mark.parametrize("mask", ["0.png", "2026/monday/0.png"])
def test_photos_of_one_name_that_no_folder_tells_apart_are_refused(tmp_path: Path, mask: str) -> None:
    for day in ("2025/monday", "2026/tuesday"):
        photo(tmp_path / day / "0.jpg")
    both(tmp_path / "masks" / mask)
    with pytest.raises(UserError, match="have the same name; rename one"):
        made(tmp_path, masks="masks")


def test_folders_of_days_are_no_classes_where_a_file_names_these(tmp_path: Path) -> None:
    for day in ("monday", "tuesday"):
        photo(tmp_path / "photos" / day / "0.jpg")
        both(tmp_path / "masks" / day / "0.png")
    assert made(tmp_path, "photos", "masks") == {"monday/0": WHOLE, "tuesday/0": WHOLE}


def test_folders_of_classes_in_parts_are_refused(tmp_path: Path) -> None:
    for seed, part in enumerate(("train", "val")):
        save_photo(tmp_path / "photos" / part / "0.jpg", seed, (HEIGHT, WIDTH))
        save_grey(tmp_path / "masks" / part / "cat/0.png", region(CAT) == 1)
    with pytest.raises(UserError, match=r"train, val are parts of a set, no classes; .* put all masks of a class"):
        made(tmp_path, "photos", "masks", named=False)


def test_a_list_of_names_beside_masks_is_named_where_it_is_lacking(tmp_path: Path) -> None:
    photo(tmp_path / "photos/0.jpg")
    both(tmp_path / "masks/0.png")
    (tmp_path / "masks/names.txt").write_text("cat\ndog\n")
    with pytest.raises(UserError, match=r"--masks needs --classes .*masks/names\.txt; "):
        made(tmp_path, "photos", "masks", named=False)


@pytest.mark.parametrize(
    ("folders", "outcome"),
    [
        (["bus", "train"], "the folders train are parts of a set, no classes"),
        (["bus", "images"], {"bus"}),
        (["bus", "test"], "the folders test are parts of a set, no classes"),
        (["Bus", "bus"], "the class names 'Bus' and 'bus' are alike"),
    ],
)
def test_names_of_parts_beside_classes(tmp_path: Path, folders: list[str], outcome: set[str] | str) -> None:
    photo(tmp_path / "photos/0.jpg")
    for folder in folders:
        save_grey(tmp_path / "masks" / folder / "0.png", np.eye(HEIGHT, WIDTH) > 0)
    if isinstance(outcome, set):
        assert {name.partition("/")[0] for name in made(tmp_path, "photos", "masks", named=False)} == outcome
        return
    with pytest.raises(UserError, match=outcome):
        made(tmp_path, "photos", "masks", named=False)


def test_a_class_may_have_the_name_of_a_part_where_names_say_so(tmp_path: Path) -> None:
    photo(tmp_path / "photos/0.jpg")
    for folder in ("bus", "train"):
        save_grey(tmp_path / "masks" / folder / "0.png", np.eye(HEIGHT, WIDTH) > 0)
    plan = from_masks(CustomOptions(images=tmp_path / "photos", masks=tmp_path / "masks", classes=Path("train,bus")))
    assert plan.classes == ["train", "bus"]
    assert sorted(job.name for job in plan.jobs) == ["bus/0", "train/0"]
