"""Classes of the page: names that are free, and a class that is removed or renamed."""

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.browser import BOX, Page
from util.files.mask_images import read_mask

CORNER = {**BOX, "points": [[0, 0], [20, 16]]}


@pytest.fixture
def three_classes(page: Page, photos: list[Path]) -> Page:
    """Return a page of cat, dog and cow, with an example of cat and cow, one of cat, and a result."""
    for photo in photos:
        page.do("open", path=str(photo))
    for name in ("cat", "dog", "cow"):
        page.do("add_class", name=name)
    page.draw(photos[0].name, BOX, CORNER | {"value": 3}, CORNER | {"tool": "eraser"})
    page.draw(photos[1].name, BOX)
    assert "1 photo shows a cat" in page.do("segment")
    return page


def test_a_class_with_a_verdict_is_not_removed(three_classes: Page, photos: list[Path]) -> None:
    predicted = photos[2].name
    three_classes.judge(predicted, "accepted")
    assert f"its result on {predicted} has a verdict" in three_classes.do("remove_class", value=1)
    three_classes.judge(predicted, "")
    assert three_classes.do("remove_class", value=1) == "cat is removed"


def test_a_class_is_removed_with_its_edits_and_results(three_classes: Page, photos: list[Path], tmp_path: Path) -> None:
    three_classes.do("remove_class", value=1)
    assert three_classes.classes() == ["dog", "cow"]
    edits = three_classes.edits(photos[0].name)
    assert [(edit["tool"], edit["value"]) for edit in edits] == [("box", 3), ("eraser", 1)]
    label = read_mask(tmp_path / f"out/examples/masks/{photos[0].stem}.png")
    assert np.unique(label).tolist() == [0, 3]
    assert not three_classes.row(photos[1].name)["example"]
    assert not three_classes.row(photos[2].name)["found"]


def test_classes_are_renamed_in_the_examples(page: Page, photos: list[Path], tmp_path: Path) -> None:
    page.do("open", path=str(photos[0]))
    page.do("add_class", name="cat")
    page.draw(photos[0].name, BOX)
    page.do("add_class", name="C+")
    assert "those of 'C+'" in page.do("add_class", name="C#")
    page.do("rename_class", value=1, name="dog")
    assert (tmp_path / "out/examples/names.txt").read_text() == "1: dog\n2: C+\n"
