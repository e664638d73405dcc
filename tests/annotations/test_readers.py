"""Every format of the same annotations is recognised, and gives the same pixels of the same classes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotations import recognise
from annotations.annotation import class_mask
from annotations.results import decide_unconfirmed
from photos.example_files import read_examples
from photos.examples import BOXED
from tests.annotations import drawn
from tests.helpers.read import json_of, write_json
from util.files.errors import UserError
from util.files.mask_images import write_mask


@pytest.mark.parametrize("kind", [*drawn.WRITERS, "masks"])
def test_a_folder_of_a_format_gives_its_supports(kind: str, tmp_path: Path) -> None:
    write = drawn.masks if kind == "masks" else drawn.WRITERS[kind]
    write(tmp_path / "set")
    ids = [17, 18] if kind == "coco" else [1, 2]
    for text in (f"{tmp_path}/set", f"{kind}:{tmp_path}/set"):
        supports, categories = read_examples([text])
        assert [*categories.items()][:2] == [*zip(ids, ("cat", "dog"))]
        assert [support.name for support in supports] == ["cat", "dog"]
        for support in supports:
            read = support.read()
            np.testing.assert_array_equal(np.isin(read.label, (1, BOXED)), drawn.region(drawn.BOXES[support.name]) > 0)
            assert read.image.shape == (drawn.HEIGHT, drawn.WIDTH, 3)


@pytest.mark.parametrize("kind", drawn.WRITERS)
def test_photos_may_lie_elsewhere(kind: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "photos"
    elsewhere.mkdir()
    path = drawn.WRITERS[kind](tmp_path / kind)
    photo = next((tmp_path / kind).rglob(drawn.PHOTO))
    photo.rename(elsewhere / photo.name)
    supports, _ = read_examples([str(path)], elsewhere)
    assert [bool(support.read().label.any()) for support in supports] == [True, True]
    chosen, _ = read_examples([str(path)], elsewhere, classes=["dog"], shots=1)
    assert [support.name for support in chosen] == ["dog"]


def test_a_mask_of_one_index_without_names_is_one_object(tmp_path: Path) -> None:
    drawn.photo(tmp_path / drawn.PHOTO)
    Image.fromarray(255 * drawn.region(drawn.CAT)).convert("RGB").save(tmp_path / "a.png")
    (support,), _ = read_examples([str(tmp_path)])
    assert support.name is None
    assert support.read().label.sum() == drawn.AREAS["cat"]


def test_a_folder_of_several_formats_needs_a_prefix(tmp_path: Path) -> None:
    drawn.coco(tmp_path)
    drawn.labelme(tmp_path)
    with pytest.raises(UserError, match="may be of the formats"):
        recognise.recognise(str(tmp_path))
    assert recognise.recognise(f"coco:{tmp_path}") == ("coco", tmp_path / "coco.json")


@pytest.mark.parametrize("names", ["labels/classes.txt", "classes.txt", "obj.names"])
def test_yolos_folder_may_have_classes_in_place_of_a_data_file(tmp_path: Path, names: str) -> None:
    drawn.yolo(tmp_path)
    (tmp_path / "data.yaml").unlink()
    (tmp_path / names).write_text("cat\ndog\n")
    if names == "obj.names":  # of CVAT, whose text files lie beside the photos
        (tmp_path / "images/train").rename(tmp_path / "obj_Train_data")
        (tmp_path / "labels/train/a.txt").rename(tmp_path / "obj_Train_data/a.txt")
        (tmp_path / "Train.txt").write_text("data/obj_Train_data/a.jpg\n")
    else:  # of Label Studio
        (tmp_path / "notes.json").write_text('{"categories": [{"id": 0, "name": "cat"}], "info": {}}')
    kind, _ = recognise.recognise(str(tmp_path))
    assert (kind, drawn.areas(tmp_path)) == ("yolo", drawn.AREAS)


@pytest.mark.parametrize(("by", "beside"), [("network", 255), ("person", 0)])
@pytest.mark.parametrize("shown", [drawn.CAT, (0, 0, 0, 0)])
def test_unconfirmed_masks_are_unknown_for_trainings(
    tmp_path: Path, by: str, beside: int, shown: tuple[int, ...]
) -> None:
    drawn.results(tmp_path)
    write_mask(tmp_path / "a_mask.png", drawn.region(shown))
    record = json_of(tmp_path / "a.json")
    for row, whose in zip(record["classes"], ("person", by), strict=True):
        row["by"] = whose
    write_json(tmp_path / "a.json", record)
    annotations = recognise.READERS["results"](tmp_path, None)
    decide_unconfirmed(annotations, taken=False)
    (photo,) = annotations.photos
    np.testing.assert_array_equal(class_mask(photo, {1: 1, 2: 2}), np.where(drawn.region(shown) == 1, 1, beside))
    assert (2 in photo.stated) == (by == "person")
