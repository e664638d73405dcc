"""Supports judged by each other: folds, doubtful supports, materials."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from annotations.shapes import encoded
from photos import Segmenter, support_check
from photos.examples import Support
from photos.export.export import write_export
from photos.support_check import (
    ALONG_BORDER,
    FOLDS,
    along_border,
    check_supports,
    for_materials,
    photos_of,
    weak_supports,
)
from util.evaluate.calibration import FORMAT, Calibration
from util.files.errors import UserError

SIDE, SQUARE, SHOTS = 64, 24, 6


def _support(seed: int, colour: int) -> Support:
    """Return a noisy photo with a square brighter in one channel."""
    random = np.random.default_rng(seed)
    image = random.integers(0, 120, (SIDE, SIDE, 3)).astype(np.uint8)
    label = np.zeros((SIDE, SIDE), np.uint8)
    top, left = random.integers(0, SIDE - SQUARE, 2)
    rows, columns = slice(top, top + SQUARE), slice(left, left + SQUARE)
    image[rows, columns, colour] += 130
    label[rows, columns] = 1
    return Support(image, label, f"photo{seed}")


@pytest.fixture
def segmenter(baseline: Path) -> Segmenter:
    """Return a segmenter of a class with enough supports, by the prototype baseline with random weights."""
    out = Segmenter(config=baseline, device="cpu")
    out.add("red", [_support(seed, 0) for seed in range(SHOTS)])
    return out


def test_supports_given_the_others_leave_the_presence_scores(segmenter: Segmenter) -> None:
    segmenter.add("green", [_support(seed, 1) for seed in range(10, 10 + SHOTS)])
    segmenter.calibration = Calibration(FORMAT, "", "", "", 1.0, 0.0, [0.0, 0.0, 0.0, 0.0, 0.0, 1.0], 0.0, 0.5)
    judged = check_supports(segmenter)
    facts = judged.adaptation
    assert (facts["predictions"], facts["doubtful"]) == (2 * SHOTS, [])
    assert 0 <= facts["iou"] <= 100
    line = f"{2 * SHOTS} examples, each found by means of the others: mean IoU {facts['iou']:.1f} %"
    assert judged.notes[-1] == line
    assert segmenter.adaptation is None
    photo = _support(99, 0).image
    assert judged.digest() == segmenter.digest()
    assert judged(photo).presence == segmenter(photo).presence


def test_two_supports_do_not_judge_each_other(segmenter: Segmenter) -> None:
    two = segmenter.without_classes()
    two.add("red", [_support(seed, 0) for seed in range(2)])
    assert check_supports(two) is two


def test_a_doubtful_support_is_named(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    iou = np.array([[60.0], [70.0], [2.0], [65.0], [60.0], [60.0]])
    monkeypatch.setattr(support_check, "given_the_others", lambda *_: iou)
    judged = check_supports(segmenter)
    assert judged.adaptation["doubtful"] == ["red, example 3 (photo2)"]
    assert judged.adaptation["iou"] == 63.0
    assert "red, example 3 (photo2): not found by means of the others" in judged.notes[-1]
    monkeypatch.setattr(support_check, "SMALL", 1.0)
    assert check_supports(segmenter).adaptation["doubtful"] == []  # too small to be found


def test_a_photo_of_two_classes_is_one_and_folds_leave_supports_of_each(segmenter: Segmenter) -> None:
    blue = [_support(20, 2)]
    for red in (_support(seed, 0) for seed in range(5)):
        blue.append(Support(red.image, np.roll(red.label, SIDE // 2, 0), red.source))
    segmenter.add("blue", blue)
    photos = photos_of(segmenter)
    assert len(photos) == SHOTS + 1
    assert sum(len(photo.shots) for photo in photos) == 2 * SHOTS
    assert set(photos[0].label.unique().tolist()) >= {0, 2}
    for number in range(2):
        folds = [photo.fold for photo in photos if number in photo.shots]
        assert set(folds) == set(range(FOLDS))


def _marked_below(segmenter: Segmenter, columns: int) -> Segmenter:
    """Add a class whose mark is the lower half of the first columns of a black photo, 60 pixels wide."""
    label = np.zeros((40, 60), np.uint8)
    label[20:, :columns] = 1
    segmenter.add("floor", [Support(np.zeros((40, 60, 3), np.uint8), label, "floor")])
    return segmenter


def test_a_mark_along_the_border_gives_a_hint_and_the_same_prediction(empty_segmenter) -> None:
    segmenter = _marked_below(empty_segmenter(), 60)
    checked = check_supports(segmenter)
    assert checked.notes[-1].startswith("floor: the example fills its photo; if it is a material")
    assert checked.model is segmenter.model and checked.adaptation is None
    photo = _support(99, 0).image
    assert (checked(photo).probability == segmenter(photo).probability).all()
    corner = _marked_below(empty_segmenter(), 15)
    assert check_supports(corner) is corner


def test_a_material_is_segmented_by_the_linear_probe_where_it_is_asked_for(empty_segmenter, tmp_path: Path) -> None:
    segmenter = _marked_below(empty_segmenter(), 60)
    adapted = for_materials(segmenter)
    assert adapted.adaptation == {"method": "linear probe"} and adapted.presence_by is segmenter
    assert adapted.notes[-1].startswith("linear probe segments the material")
    with pytest.raises(UserError, match=r"linear probe: cannot be exported: .*; leave out --adapt material"):
        write_export(adapted, tmp_path / "out", "pt2")
    assert not list(tmp_path.glob("*out*"))


def test_the_share_of_the_border_is_that_of_the_photo_without_padding(empty_segmenter) -> None:
    segmenter = _marked_below(empty_segmenter(), 60)
    assert along_border(segmenter.classes[0].labels[0, 0]) == pytest.approx(0.5, abs=0.03)
    assert ALONG_BORDER < 0.5
    assert along_border(torch.full((4, 4), 1)) == 1


def _records(segmenter: Segmenter, folder: Path, masks: list[np.ndarray]) -> list[dict]:
    """Return results on photos of red squares with these masks, and on as many less one without a mask."""
    records = []
    empty = np.zeros((SIDE, SIDE), bool)
    for seed, mask in enumerate([*masks, *[empty] * (len(masks) - 1)], 100):
        photo = folder / f"{seed}.png"
        Image.fromarray(_support(seed, 0).image).save(photo)
        row = {"name": "red", "presence": seed / 1000, "pixels": int(mask.sum()), "runs": encoded(mask)}
        records.append({"query": str(photo), "classes": [row]})
    return records


def test_an_only_support_that_its_masks_do_not_find_is_weak(segmenter: Segmenter, tmp_path: Path) -> None:
    only = segmenter.without_classes()
    only.add("red", [_support(0, 0)])
    squares = [_support(seed, 0).label == 1 for seed in range(100, 105)]
    elsewhere = [np.roll(square, SIDE // 2, (0, 1)) for square in squares]
    assert weak_supports(only, _records(only, tmp_path, squares)) == []
    (line,) = weak_supports(only, _records(only, tmp_path, elsewhere))
    assert line.startswith("red: this example is weak: it masks 5 of 9 photos")
    assert weak_supports(only, _records(only, tmp_path, elsewhere)[1:]) == []  # half of the photos
    assert weak_supports(segmenter, _records(only, tmp_path, elsewhere)) == []  # several supports


def test_three_supports_judge_each_other_unless_the_option_is_none(
    predict, baseline: Path, photos: list[Path], tmp_path: Path
) -> None:
    words: list[object] = ["--config", baseline, "--query", photos[0], "--out", tmp_path / "out"]
    for seed in range(3):
        Image.fromarray(_support(seed, 0).image).save(tmp_path / f"{seed}.png")
        words += ["--support", f"{tmp_path / str(seed)}.png:box=5,5,30,30"]
    assert "by means of the others" in predict(*words).output
    record = json.loads((tmp_path / "out" / f"{photos[0].stem}.json").read_text())
    assert record["adapt"]["predictions"] == 3
    assert "1 of 1 results are complete" in predict(*words, "--resume").output
    assert "by means of the others" not in predict(*words, "--adapt", "none", "--overwrite").output
