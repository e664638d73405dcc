"""Every format of the same annotations is recognised, and gives the same pixels of the same classes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.formats import drawn
from util.errors import UserError
from util.formats import recognise
from util.formats.annotations import AnnotatedPhoto, Instance, label_of
from util.predict.supports import BOXED, read_supports


@pytest.mark.parametrize("kind", [*drawn.WRITERS, "masks"])
def test_a_folder_of_a_format_gives_its_supports(kind: str, tmp_path: Path) -> None:
    (drawn.WRITERS | {"masks": drawn.masks})[kind](tmp_path / "set")
    for text in (str(tmp_path / "set"), f"{kind}:{tmp_path / 'set'}"):
        listed, categories = read_supports([text])
        assert list(categories.items())[:2] == list(zip((17, 18) if kind == "coco" else (1, 2), ("cat", "dog")))
        for support in listed:
            read = support.read()
            assert np.array_equal(np.isin(read.label, (1, BOXED)), drawn.region(drawn.BOXES[support.name]) > 0)
            assert read.image.shape == (drawn.HEIGHT, drawn.WIDTH, 3)
        assert [support.name for support in listed] == ["cat", "dog"]


def test_nothing_is_painted_at_a_stated_size_that_is_not_the_photos(tmp_path: Path) -> None:
    photo, region = drawn.photo(tmp_path / drawn.PHOTO), np.array([0.0, 0, 9, 0, 9, 9])
    stated = AnnotatedPhoto(photo.name, 2**20, 2**20, (Instance(1, (region,)),))  # 2**40 bytes
    with pytest.raises(UserError, match=rf"{photo.name}: .* different sizes"):
        label_of(stated, photo, {1: 1})


def test_photos_may_lie_elsewhere(tmp_path: Path) -> None:
    for kind, write in drawn.WRITERS.items():
        folder = tmp_path / kind
        path = write(folder)
        photo = next(folder.rglob(drawn.PHOTO))
        (tmp_path / f"photos {kind}").mkdir()
        photo.rename(tmp_path / f"photos {kind}" / photo.name)
        listed, _ = read_supports([str(path)], tmp_path / f"photos {kind}")
        assert [s.read().label.sum() > 0 for s in listed] == [True, True]
        chosen, _ = read_supports([str(path)], tmp_path / f"photos {kind}", classes=["dog"], shots=1)
        assert [support.name for support in chosen] == ["dog"]
    drawn.masks(tmp_path / "set")
    (tmp_path / "set" / drawn.PHOTO).rename(tmp_path / "photos coco" / "a.jpg")
    assert len(read_supports([str(tmp_path / "set")], tmp_path / "photos coco")[0]) == 2


def test_masks_without_names_are_one_object_unless_they_hold_several_indices(tmp_path: Path) -> None:
    drawn.masks(tmp_path)
    (tmp_path / "names.txt").unlink()
    with pytest.raises(UserError, match=r"a\.png: .* hold the class indices \[1, 2\]"):
        read_supports([str(tmp_path)])
    (support,), _ = read_supports([str(tmp_path)], mask_value=2)
    assert np.array_equal(support.read().label == 1, drawn.region(drawn.DOG) > 0)
    Image.fromarray(255 * drawn.region(drawn.CAT)).convert("RGB").save(tmp_path / "a.png")
    (support,), _ = read_supports([str(tmp_path)])
    assert support.name is None and support.read().label.sum() == drawn.AREAS["cat"]
    for number, (name, box) in enumerate(drawn.BOXES.items(), 1):  # or several masks do
        drawn.photo(tmp_path / f"{name}.jpg")
        drawn.index_mask(tmp_path / f"{name}.png", number * drawn.region(box))
    with pytest.raises(UserError, match=r"dog\.png: .* hold the class indices \[1, 2\]"):
        read_supports([str(tmp_path)])


def test_a_folder_of_several_formats_needs_a_prefix(tmp_path: Path) -> None:
    drawn.coco(tmp_path), drawn.labelme(tmp_path)
    with pytest.raises(UserError, match="may be of the formats"):
        recognise.recognise(str(tmp_path))
    assert recognise.recognise(f"coco:{tmp_path}") == ("coco", tmp_path / "coco.json")
    drawn.yolo(tmp_path / "yolo")
    (tmp_path / "yolo/data.yaml").unlink()
    (tmp_path / "yolo/labels/classes.txt").write_text("cat\ndog\n")
    assert recognise.recognise(str(tmp_path / "yolo"))[0] == "yolo" and drawn.areas(tmp_path / "yolo") == drawn.AREAS
