"""Classes and background compete for each pixel, and the summary counts the pixels of each class."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from annotations.shapes import decoded
from photos import Prediction
from photos import prediction as prediction_module
from photos.calibration import FORMAT, Calibration, MaskScore, logit, sigmoid
from photos.prediction import Decision, without_crumbs, write_result
from photos.refine import without_specks
from util.files.errors import UserError
from util.files.reading import read_json

MARGINS = np.array([[[2.0, 0.5, 1.0, 3.0]], [[1.0, -2.0, 4.0, -1.0]]], np.float32)  # two classes, 1 x 4 pixels
IMAGE = np.zeros((1, 4, 3), np.uint8)
ALONE = 1 / (1 + np.exp(0.5 - 2 * MARGINS))  # the probability of each class without the other, by this calibration
CATS_SHARE, DOGS_SHARE = 3 / 4, 1 / 2  # of the pixels that each would have alone
CALIBRATION = Calibration(FORMAT, "model", "key", "base classes", 2.0, -0.5, [1.0], 0.0, 0.5)


@pytest.fixture(autouse=True)
def any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the few pixels of these masks be objects."""
    monkeypatch.setattr(prediction_module, "CRUMB", 0)


def _predicted(**decision: object) -> Prediction:
    return Prediction.from_margins(
        IMAGE,
        ["cat", "dog"],
        MARGINS,
        [CALIBRATION.presence(np.ones(1))] * 2,
        CALIBRATION,
        decision=Decision(**decision),
    )


def test_probabilities_are_calibrated() -> None:
    logits = torch.from_numpy(np.concatenate([0 * MARGINS[:1], 2 * MARGINS - 0.5]))
    assert np.allclose(_predicted().probability, logits.softmax(0)[1:].numpy())
    assert _predicted().mask.tolist() == [[1, 1, 2, 1]]
    assert _predicted(min_presence=0.9).mask.tolist() == [[0, 0, 0, 0]]  # the score of both is 0.73
    assert _predicted(min_presence=CALIBRATION.presence(np.ones(1))).mask.all()


@pytest.mark.parametrize("score", [50, -0.1, float("nan")])
def test_a_least_presence_score_that_is_none_is_refused(score: float) -> None:
    with pytest.raises(UserError, match=f"^min_presence {score}: is no presence score; give one from 0 to 1"):
        Decision(min_presence=score)


def test_instances_and_saved_files_are_those_of_the_command(tmp_path: Path) -> None:
    prediction = _predicted()
    cat, far_cat, dog = prediction.instances()
    assert (cat.name, cat.box, cat.area, far_cat.area, dog.box) == ("cat", (0, 0, 2, 1), 2, 1, (2, 0, 3, 1))
    assert cat.mask.tolist() == [[True, True, False, False]]
    of_cat, of_dog = ALONE[:, 0]
    assert (far_cat.score, dog.score) == pytest.approx((of_cat[3] * CATS_SHARE, of_dog[2] * DOGS_SHARE), abs=1e-6)
    with pytest.raises(UserError):
        prediction.save(tmp_path)
    assert [row["parts"] for row in prediction.summary()] == [2, 1]
    paths = prediction.save(tmp_path, "frame.1")
    record, mask, *_ = paths
    assert mask.samefile(tmp_path / "frame.1_mask.png")
    runs = [decoded(row["runs"]) for row in read_json(record, "", "")["classes"]]
    assert np.array_equal(runs, [prediction.mask == 1, prediction.mask == 2])
    write_result(paths, Path("frame.1"), IMAGE, [], {}, pictures=False)
    assert not mask.exists()  # which is of the earlier result


def test_a_calibrated_score_is_of_presence_and_pixels() -> None:
    """Also of a part; of other classes only the pixels that they take count."""
    calibration = replace(CALIBRATION, mask=MaskScore(presence=0.5, pixels=2.0, bias=-1.0))
    prediction = Prediction.from_margins(IMAGE, ["cat", "dog"], MARGINS, [0.9, 0.9], calibration)
    cat, _ = prediction.summary()
    inside = ALONE[0][prediction.mask == 1].mean() * CATS_SHARE
    assert cat["score"] == pytest.approx(sigmoid(0.5 * logit(0.9) + 2 * logit(inside) - 1), abs=1e-5)
    parts = [part.score for part in prediction.instances() if part.name == "cat"]
    assert min(parts) <= cat["score"] <= max(parts)


def test_parts_below_64_pixels_or_a_share_of_the_photo_are_no_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_module, "CRUMB", 64)
    mask = np.zeros((700, 1000), np.uint8)
    mask[:8, :8] = 1  # 64 pixels, below 0.02 % of the photo
    mask[100:112, 100:112] = 1
    out = without_crumbs(mask)
    assert not out[:8, :8].any() and (out == 1).sum() == 144
    assert (without_crumbs(mask[:60, :60]) == 1).sum() == 64


@pytest.mark.parametrize(("side", "is_shown"), [(9, False), (11, True)])
def test_a_class_of_less_than_a_thousandth_of_the_photo_is_no_object(side: int, is_shown: bool) -> None:
    margins = np.full((1, 300, 400), -1, np.float32)
    margins[0, :side, :side] = 1
    found = Prediction.from_margins(
        np.zeros((300, 400, 3), np.uint8), ["cat"], margins, decision=Decision(refine=False)
    )
    assert found.mask.any() == is_shown


def test_specks_are_dropped_and_small_holes_filled() -> None:
    mask = np.zeros((60, 80), np.uint8)
    mask[10:50, 10:50] = 1
    mask[20:23, 20:23] = 0  # a small hole
    mask[30:34, 30:34] = 2  # another class
    mask[34:50, 34:50] = 0  # open to no side, but no small hole
    mask[2:4, 70:72] = 1  # a speck
    mask[20:30, 60:70] = 1  # a part
    expected = mask.copy()
    expected[20:23, 20:23] = 1
    expected[2:4, 70:72] = 0
    assert np.array_equal(without_specks(mask), expected)
    mask[:] = 1
    mask[:3, 9] = mask[-3:, 9] = mask[9, :3] = mask[9, -3:] = 0  # open to a side each
    assert np.array_equal(without_specks(mask), mask)
