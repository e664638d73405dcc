"""Sets in parts: annotations in several files or folders are one set, and equal names in two folders two photos."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from annotations.labelme import read_annotations
from annotations.mask_files import folders_in, pairs
from datasets.custom_masks import from_masks
from datasets.custom_plan import CustomOptions
from photos.example_files import read_examples
from tests.annotations import drawn
from tests.annotations.drawn import (
    AREAS,
    BOXES,
    PHOTO,
    areas,
    coco_json,
    index_mask,
    labelme_json,
    outline,
    photo,
    polygon,
    refusal,
    region,
)
from tests.helpers.read import json_of, write_json
from util.files.errors import UserError

TWICE = {name: 2 * area for name, area in AREAS.items()}
MARKS = [{"segmentation": [outline(box)]} for box in BOXES.values()]


def labelme_in_folders(root: Path) -> None:
    for day in ("day1", "day2"):
        labelme_json(root / day, *map(polygon, BOXES))


def labelme_beside(root: Path) -> None:
    for day in ("day1", "day2"):
        labelme_json(root / "labels" / day, *map(polygon, BOXES))
        (root / "images" / day).mkdir(parents=True)
        (root / "labels" / day / PHOTO).rename(root / "images" / day / PHOTO)


def labelme_in_folders_of_days(root: Path) -> None:
    for day in ("day1", "day2"):
        folder = labelme_json(root / day / "json", *map(polygon, BOXES))
        (root / day / "images").mkdir()
        (folder / PHOTO).rename(root / day / "images" / PHOTO)
        file = next(folder.glob("*.json"))
        file.write_text(file.read_text().replace("gone", "images"))


def masks(root: Path) -> None:
    for part in ("train", "val"):
        photo(root / part / "images" / PHOTO)
        (root / part / "masks").mkdir()
        index_mask(root / part / "masks/a.png", region(*BOXES.values()))
    (root / "names.txt").write_text("cat\ndog\n")


SETS = [labelme_in_folders, labelme_beside, labelme_in_folders_of_days, masks]


@pytest.mark.parametrize("write", SETS, ids=lambda write: write.__name__)
@pytest.mark.parametrize("named", [False, True])
def test_a_set_in_parts_is_read_as_one(tmp_path: Path, write: Callable[[Path], None], named: bool) -> None:
    write(tmp_path)
    photos = tmp_path if named else None
    supports, _ = read_examples([str(tmp_path)], photos)
    assert len({support.photo.resolve() for support in supports}) == 2
    assert areas(tmp_path, photos) == TWICE


def test_annotations_beside_photos_are_of_the_folder_above(tmp_path: Path) -> None:
    photo(tmp_path / "images/train" / PHOTO)
    path = coco_json(tmp_path / "annotations", *MARKS, file=PHOTO)
    for place in (tmp_path / "annotations", tmp_path, path):
        assert areas(place) == AREAS


def test_a_class_name_that_cannot_be_of_a_file_is_refused_with_its_file(tmp_path: Path) -> None:
    photo(tmp_path / "p0.jpg")
    path = coco_json(tmp_path, *MARKS, names=("cup/mug", "dog"))
    assert f"{path}: the class 'cup/mug': a class name has 1 to 80 characters" in refusal(path)
    supports, _ = read_examples([str(path)], classes=["dog"])
    assert [support.name for support in supports] == ["dog"]


def test_masks_whose_names_match_no_photo_are_named(tmp_path: Path) -> None:
    photo(tmp_path / "train" / PHOTO)
    index_mask(tmp_path / "train/a_mask.png", region(*BOXES.values()))
    assert "holds neither masks nor annotations" in (line := refusal(tmp_path))
    assert "give masks in folders a file of names" in line
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    (tmp_path / "train/a_mask.png").rename(tmp_path / "train/b_mask.png")
    assert "none of its 1 masks has the name of a photo" in (line := refusal(tmp_path))
    assert "such as b_mask.png" in line


@pytest.mark.parametrize(
    ("images", "annotations", "refused"),
    [
        ("train valid", "train/coco.json valid/coco.json", "several of its files list the same photos"),
        (
            "images/train images/val",
            "annotations/instances_train.json annotations/instances_val.json",  # CVAT's
            "2 photos, such as",
        ),
    ],
)
def test_several_files_of_coco_are_parts_of_one_set(
    tmp_path: Path, images: str, annotations: str, refused: str
) -> None:
    for folder, name in zip(images.split(), annotations.split(), strict=True):
        photo(tmp_path / folder / PHOTO)
        file = coco_json((tmp_path / name).parent, *MARKS, file=PHOTO).rename(tmp_path / name)
    assert areas(tmp_path) == areas(tmp_path, tmp_path) == TWICE
    shutil.copy(file, copy := file.with_name(f"{Path(folder).name}.json"))
    assert refused in refusal(tmp_path)
    copy.unlink()
    coco_json(file.parent, *MARKS, file=PHOTO, names=("cat", "cow")).rename(file)
    assert f"{name}: holds no instances in COCO's format (its categories" in refusal(tmp_path)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_masks_of_roboflow_lie_beside_their_photos(tmp_path: Path, suffix: str) -> None:
    for part in ("train", "valid"):
        photo(tmp_path / part / PHOTO).rename(tmp_path / part / f"a.{suffix}")
        index_mask(tmp_path / part / "a_mask.png", region(*BOXES.values()))
        (tmp_path / part / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, cat\n2, dog\n")
    assert areas(tmp_path) == TWICE
    plan = from_masks(CustomOptions(images=tmp_path, masks=tmp_path))
    assert (plan.classes, len(plan.jobs)) == (["cat", "dog"], 2)
    (tmp_path / "masks").mkdir()
    for name in ("a.png", "b.png", "b_mask.png", "c:1.png", "c\\d.png"):  # beside no photo
        index_mask(tmp_path / "masks" / name, region(*BOXES.values()))
    for name in ("b", "c:1", "c\\d", "a"):
        photo(tmp_path / "photos" / PHOTO).rename(tmp_path / f"photos/{name}.jpg")
    with pytest.raises(UserError, match="are both masks of"):
        pairs(tmp_path / "photos", tmp_path / "masks")
    (tmp_path / "masks/b_mask.png").unlink()
    (tmp_path / "photos/b").touch()
    assert [photo.name for photo, _ in pairs(tmp_path / "photos", tmp_path / "masks")] == [
        f"{name}.jpg" for name in ("a", "b", "c:1", "c\\d")
    ]


@pytest.mark.parametrize(
    ("count", "change", "reason"),
    [
        (2, {"bbox": [60, 2, 30, 40]}, "its outline, bbox or area disagree"),
        (6, {"bbox": [60, 2, 30, 40]}, "its outline, bbox or area disagree"),
        (6, {"category_id": 7}, "category_id 7 is not among the categories"),
        (6, {"segmentation": {"size": [drawn.HEIGHT, drawn.WIDTH], "counts": [1, 2]}}, "its run lengths do not cover"),
        (6, {"segmentation": [[1, 2, 3]]}, "an outline has an odd number of numbers"),
    ],
)
def test_a_photo_with_an_annotation_that_is_wrong_is_left_out(
    tmp_path: Path, capsys, count: int, change: dict, reason: str
) -> None:
    path = coco_json(tmp_path, *[MARKS[0] | {"image_id": n, "category_id": 1} for n in range(count)])
    content = json_of(path)
    content["images"] = [content["images"][0] | {"id": n, "file_name": f"p{n}.jpg"} for n in range(count)]
    content["annotations"][1] |= change
    write_json(path, content)
    for number in range(count):
        photo(tmp_path / f"p{number}.jpg")
    assert areas(path) == {"cat": (count - 1) * AREAS["cat"]}
    assert re.search(
        f"{path}: annotation 2 of p1.jpg: {reason}.*; correct .*; 1 of {count} annotated photos .* and are left out",
        capsys.readouterr().err,
    )


def test_photos_elsewhere_are_asked_for_by_the_option_that_names_them(tmp_path: Path) -> None:
    photo(tmp_path / "photos/p0.jpg")
    path = coco_json(tmp_path / "marks", *MARKS)
    assert "with --photos" in refusal(path)
    assert areas(path, tmp_path / "photos") == AREAS
    assert "--photos" not in refusal(path, tmp_path / "marks")


def test_labels_are_stripped_and_case_alone_is_refused(tmp_path: Path) -> None:
    folder = labelme_json(tmp_path, polygon("cat"), polygon("dog") | {"label": " cat "})
    assert areas(folder) == {"cat": sum(AREAS.values())}
    labelme_json(tmp_path, polygon("cat"), polygon("dog") | {"label": "Cat "})
    assert [*read_annotations(folder).categories.values()] == ["cat", "Cat"]
    assert "the class names 'cat' and 'Cat' are alike" in refusal(folder)


def test_an_unused_category_may_repeat_a_name(tmp_path: Path) -> None:
    photo(tmp_path / "p0.jpg")
    assert areas(coco_json(tmp_path, MARKS[0], names=("cat", "Cat"))) == {"cat": AREAS["cat"]}
    assert "two categories have the same id or name: cat, cat" in refusal(
        coco_json(tmp_path, *MARKS, names=("cat", "cat "))
    )


@pytest.mark.parametrize(("right", "down", "area"), [(-60, 0, 28 * 40), (0, 30, 36 * 22), (60, 50, 0)])
def test_a_mask_of_labelme_beyond_the_photo_is_cut(tmp_path: Path, right: int, down: int, area: int) -> None:
    drawn.labelme(tmp_path)
    content = json_of(tmp_path / "a.json")
    entry = content["shapes"][-1]
    entry["points"] = [[x + right, y + down] for x, y in entry["points"]]
    write_json(tmp_path / "a.json", content)
    assert areas(tmp_path).get("dog", 0) == area


@pytest.mark.parametrize(
    ("names", "photos", "masks"),
    [
        ("Annotations JPEGImages SegmentationClass SegmentationObject", "JPEGImages", "SegmentationClass"),
        ("ann_dir img_dir", "img_dir", "ann_dir"),
        ("gt imgs", "imgs", "gt"),
        ("images images_of_cats labels masks", "images", "masks"),
        ("image", "", ""),
        ("cats masks", "", ""),
    ],
)
def test_folders_of_usual_names_are_photos_and_masks(tmp_path: Path, names: str, photos: str, masks: str) -> None:
    for name in names.split():
        (tmp_path / name).mkdir()
    assert folders_in(tmp_path) == (tmp_path / photos, tmp_path / masks)
    if masks:
        index_mask(tmp_path / masks / "a.png", region(*BOXES.values()))
        assert folders_in(tmp_path / masks) == (tmp_path / photos, tmp_path / masks)
        photo(tmp_path / masks / PHOTO)  # then photos lie beside their masks
        assert folders_in(tmp_path / masks) == (tmp_path / masks, tmp_path / masks)
