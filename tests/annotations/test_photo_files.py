"""Photos are found however programs and systems write their names."""

from pathlib import Path

import pytest

from annotations.photo_files import PhotoFiles
from tests.annotations.drawn import AREAS, CAT, COMPOSED, DECOMPOSED, areas, coco_json, outline, photo
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
    ("stated", "path"), [("x/val/p0.jpg", "val/p0.jpg"), ("/x/val/p0.jpg", "val/p0.jpg"), ("p2.jpg", "p2.jpg")]
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
