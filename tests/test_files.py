"""Files behind links: each folder once, whatever links lead to it; and names that are not UTF-8."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.formats.drawn import photo
from util.data.lists.files import photos_below
from util.files import files_below, named, paths_below, writable, write_atomically
from util.formats import recognise
from util.formats.annotations import PredictedObject, PredictedPhoto, Predictions
from util.formats.shapes import encoded


def names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in files_below(folder)]


def test_a_folder_behind_links_is_found_once_and_circles_end(tmp_path: Path) -> None:
    store, folder = tmp_path / "store", tmp_path / "in"
    for path in (store / "a.txt", store / "deep/b.txt", folder / "own/c.txt", folder / ".hidden/d.txt"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for link, target in (("first", store), ("second", store), ("own/up", folder), ("again", folder / "own")):
        (folder / link).symlink_to(target)
    (store / "circle").symlink_to(store / "deep")
    (store / "deep/circle").symlink_to(folder / "first")
    assert names(folder) == ["first/a.txt", "first/deep/b.txt", "own/c.txt"]
    assert paths_below(folder, "deep") == [folder / "first/deep"] and paths_below(tmp_path / "nowhere") == []
    (folder / "itself").symlink_to("itself")
    assert "itself" in names(folder)


def test_links_that_lead_nowhere_are_photos_or_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    photo(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").symlink_to("gone.jpg")
    (tmp_path / "batch").symlink_to("gone")
    assert [path.name for path in photos_below(tmp_path)] == ["a.jpg", "b.jpg"]
    assert "1 links lead nowhere, such as batch" in capsys.readouterr().err


def test_a_name_that_is_no_utf8_is_written_and_read_back(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \xff.jpg")
    write_atomically(tmp_path / "a.csv", f"{name}\n")
    text = (tmp_path / "a.csv").read_text()
    assert text == "caf\\udce9 \\udcff.jpg\n" and named(text) == f"{name}\n" and writable("café") == named("café")


@pytest.mark.parametrize("kind", ["labelme", "yolo", "coco"])
def test_annotations_and_their_photos_behind_links_are_found(tmp_path: Path, kind: str) -> None:
    store, given = tmp_path / "store", tmp_path / "given"
    photos = [photo(store / f"images/{name}.jpg") for name in "ab"]
    inside = np.zeros(np.asarray(Image.open(photos[0])).shape[:2], bool)
    inside[5:20, 5:20] = True
    found = [
        PredictedPhoto(path, path.name, *inside.shape, (PredictedObject("cat", 1.0, encoded(inside)),), 0)
        for path in photos
    ]
    recognise.WRITERS[kind](tmp_path / "made", Predictions(found, store / "images", {1: "cat"}))
    given.mkdir()
    for name in ("images", *(path.name for path in (tmp_path / "made").iterdir() if path.name != "images")):
        (given / name).symlink_to((store if name == "images" else tmp_path / "made") / name)
    place = given
    if kind == "labelme":  # a folder of files behind a link
        place = tmp_path / "linked"
        place.mkdir()
        (place / "batch").symlink_to(tmp_path / "made")
    annotations = recognise.read(f"{kind}:{place}", store if kind == "labelme" else given)
    assert len(annotations.annotated) == 2
    assert all(annotations.path_of(one).is_file() for one in annotations.annotated)
