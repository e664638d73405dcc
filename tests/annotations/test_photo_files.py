"""Photos are found however programs and systems write their names, and none is taken for another."""

from collections.abc import Callable
from pathlib import Path

import pytest

from annotations.photo_files import PhotoFiles
from tests.annotations import drawn
from tests.annotations.drawn import (
    AREAS,
    CAT,
    COMPOSED,
    DECOMPOSED,
    HEIGHT,
    WIDTH,
    areas,
    coco_json,
    corners,
    outline,
    photo,
    polygon,
    refusal,
)
from tests.annotations.test_labelstudio import entry
from tests.helpers.read import write_json
from util.files.errors import UserError


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize(
    ("stated", "path"),
    [
        ("images\\p0.jpg", "images/p0.jpg"),
        ("C:\\my photos\\p0.jpg", "p0.jpg"),
        ("..\\..\\media\\p0.jpg", "p0.jpg"),
        ("/home/me/photos/p0.jpg", "sub/p0.jpg"),
        ("https://b.s3.amazonaws.com/x/p0.jpg?X-Amz-Algorithm=AWS4", "p0.jpg"),
        ("file:///C:/x/my%20cat.jpg", "my cat.jpg"),
        ("images/0a1b2c3d-p0.jpg", "p0.jpg"),
        ("P0.JPG", "p0.jpg"),
        (DECOMPOSED, COMPOSED),
        (COMPOSED, DECOMPOSED),
    ],
)
def test_a_photo_is_found_however_its_name_is_written(tmp_path: Path, stated: str, path: str, by_name: bool) -> None:
    photo(tmp_path / path)
    annotations = coco_json(tmp_path, {"segmentation": [outline(CAT)]}, file=stated)
    assert areas(annotations, tmp_path if by_name else None) == {"cat": AREAS["cat"]}


@pytest.fixture
def files(tmp_path: Path) -> PhotoFiles:
    """Return photos of the same names in several folders."""
    for place in ("train/p0.jpg", "val/p0.jpg", "val/p1.jpg", "p2.jpg", "sub/p2.jpg"):
        photo(tmp_path / place)
    return PhotoFiles(tmp_path)


@pytest.mark.parametrize(
    ("stated", "path"),
    [("x/val/p0.jpg", "val/p0.jpg"), ("/x/val/p0.jpg", "val/p0.jpg"), ("p2.jpg", "p2.jpg")],
)
def test_folders_tell_photos_of_the_same_name_apart(files: PhotoFiles, stated: str, path: str) -> None:
    assert files.find(stated, files.folder) == files.folder / path


@pytest.mark.parametrize(
    ("stated", "hint"),
    [("images/train/p1.jpg", "did you mean 'val/p1.jpg'"), ("p0.jpg", "2 photos"), ("q2.jpg", "'p2.jpg'")],
)
def test_a_photo_of_another_folder_is_another_photo(files: PhotoFiles, stated: str, hint: str) -> None:
    with pytest.raises(UserError, match=hint):
        files.find(stated, files.folder)


def coco(root: Path, *stated: str) -> Path:
    """Write COCO's JSON with a cat on each stated photo."""
    images = [{"id": n, "file_name": name, "width": WIDTH, "height": HEIGHT} for n, name in enumerate(stated)]
    marks = [{"id": n, "image_id": n, "category_id": 1, "segmentation": [outline(CAT)]} for n in range(len(stated))]
    write_json(root / "coco.json", {"images": images, "annotations": marks, "categories": [{"id": 1, "name": "cat"}]})
    return root / "coco.json"


def labelstudio(root: Path, *stated: str) -> Path:
    """Write Label Studio's tasks with a cat on each stated photo of its folder of local files."""
    marked = [{"result": [entry(CAT, "cat")]}]
    tasks = [{"data": {"image": f"/data/local-files/?d={name}"}, "annotations": marked} for name in stated]
    write_json(root / "tasks.json", tasks)
    return root / "tasks.json"


def labelme(root: Path, *stated: str) -> Path:
    """Write labelme's JSON beside each stated photo, which is gone."""
    for name in stated:
        drawn.labelme_json((root / name).parent, polygon("cat"))
        (root / name).unlink()
    return root


def yolo(root: Path, *stated: str) -> Path:
    """Write YOLO's rows of each stated photo."""
    row = "0 " + " ".join(f"{x / WIDTH} {y / HEIGHT}" for x, y in corners(CAT))
    for name in stated:
        labels = (root / "labels" / name).with_suffix(".txt")
        labels.parent.mkdir(parents=True)
        labels.write_text(row)
    (root / "classes.txt").write_text("cat")
    return root


def masks(root: Path, *stated: str) -> Path:
    """Write a mask of each stated photo."""
    for name in stated:
        place = (root / "masks" / name).with_suffix(".png")
        place.parent.mkdir(parents=True)
        drawn.index_mask(place, drawn.region(CAT))
    (root / "masks/names.txt").write_text("cat")
    return root / "masks"


@pytest.mark.parametrize("write", [coco, labelstudio, labelme, yolo, masks])
def test_a_photo_of_a_name_is_not_silently_another(tmp_path: Path, capsys, write: Callable[..., Path]) -> None:
    source = write(tmp_path, "video2/a.jpg")
    photo(tmp_path / "video1/a.jpg")
    assert areas(source, tmp_path) == {"cat": AREAS["cat"]}
    line = capsys.readouterr().err
    assert "in other folders" in line and "video1" in line and "video2" in line


@pytest.mark.parametrize("write", [coco, labelstudio, labelme, yolo])
@pytest.mark.parametrize("place", ["video1", "."])
def test_two_photos_that_are_stated_are_not_one(tmp_path: Path, write: Callable[..., Path], place: str) -> None:
    source = write(tmp_path, "video1/a.jpg", "video2/a.jpg")
    photo(tmp_path / place / "a.jpg")
    line = refusal(source, tmp_path)
    assert "are two photos, but" in line and "video1" in line and "video2" in line


def test_addresses_and_folders_of_other_machines_are_found_without_a_word(tmp_path: Path, capsys) -> None:
    photo(tmp_path / "images/a.jpg")
    for stated in ("s3://bucket/a.jpg", "C:\\mine\\a.jpg", "/home/me/a.jpg", "photos/a.jpg"):
        assert areas(coco(tmp_path, stated), tmp_path) == {"cat": AREAS["cat"]}
    assert not capsys.readouterr().err


def test_two_uploads_of_one_name_are_not_one(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    line = refusal(labelstudio(tmp_path, "aaaaaaaa-a.jpg", "bbbbbbbb-a.jpg"))
    assert "aaaaaaaa-a.jpg" in line and "bbbbbbbb-a.jpg" in line


def test_the_address_of_a_local_file_tells_folders_apart(tmp_path: Path, capsys) -> None:
    for folder in ("video 1", "video 2"):
        photo(tmp_path / folder / "a.jpg")
    for stated in ("/data/local-files/?d=video%202/a.jpg", "/data/local-files/?d=set/video%202/a.jpg"):
        assert PhotoFiles(tmp_path).find(stated, tmp_path) == tmp_path / "video 2/a.jpg"
    assert not capsys.readouterr().err
