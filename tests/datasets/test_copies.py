"""Copies of photos are equal files, versions are known by their names; a split parts neither."""

from pathlib import Path

import numpy as np
import pytest

from datasets.copies import photo_groups
from tests.datasets.class_trees import disc, save_grey, save_photo
from tests.datasets.printed import assert_done
from tests.datasets.test_custom_split import annotated, lists_of, photos_of_sides
from tests.helpers.read import json_of, write_json
from util.data.lists.index import Index


def versions(folder: Path, photos: int) -> tuple[object, ...]:
    """Write photos in three versions each, as Roboflow names and mirrors them; return the command's words."""
    names = [f"{n}_jpg.rf.{letter}{n:031x}" for n in range(photos) for letter in "abc"]
    words = annotated(folder, "coco", {f"{n}": [1 + n % 2] for n in range(3 * photos)})
    path = folder / "coco/instances.json"
    content = json_of(path)
    for number, (image, name) in enumerate(zip(content["images"], names, strict=True)):
        image["file_name"] = f"{name}.png"
        (folder / f"photos/{number}.png").rename(folder / f"photos/{name}.png")
    write_json(path, content)
    return words


def test_a_photos_versions_are_on_one_side_of_the_split(prepare, project: Path, tmp_path: Path) -> None:
    words = versions(tmp_path, photos=12)
    single = tmp_path / "photos/0_jpg.png"  # not a version, though it begins alike
    save_photo(single, 99, (60, 60))
    assert_done(prepare(*words), "note, in one list together: 36 photos in 12 groups")
    lists = lists_of(project)
    train, test = photos_of_sides(lists)
    assert (len(lists["all"]), len(test)) == (36, 3)
    assert not train & test


def test_two_people_s_masks_of_an_object_are_told_from_two_classes(prepare, project: Path, tmp_path: Path) -> None:
    for number in range(8):
        save_photo(tmp_path / f"photos/p{number}.jpg", number)
        for shift, name in enumerate(("alice", "bob")):
            save_grey(tmp_path / f"masks/{name}/p{number}.png", np.roll(disc(number), shift, axis=1))
        save_grey(tmp_path / f"masks/cup/p{number}.png", ~disc(number))
    made = prepare("custom", "--name", "pets", "--images", f"{tmp_path}/photos", "--masks", f"{tmp_path}/masks")
    assert_done(made)
    assert "'alice' and 'bob' are two classes of nearly the same pixels" in made.errors
    assert "'cup'" not in made.errors


@pytest.mark.parametrize("copied", [True, False])
def test_a_copy_of_a_version_joins_all_versions(copied: bool, tmp_path: Path, monkeypatch) -> None:
    names = ["a.rf.1", "a.rf.2", "b", "c.rf.3"]
    digests = ["1", "2", "2" if copied else "3", "4"]
    images = [tmp_path / f"{name}.jpg" for name in names]
    index = Index(tuple(names), np.zeros((4, 2)), tuple(images), (), "")
    monkeypatch.setattr(Index, "photo_digest", lambda self, row: digests[row])
    expected = [[0, 1, 2], [3]] if copied else [[0, 1], [2], [3]]
    assert sorted(photo_groups(index)) == expected
