"""The mask of a photo on the page: what the tools draw, and what the network's probabilities give at a threshold."""

import cv2
import numpy as np
import pytest

from photos import Prediction
from photos.calibration import Calibration
from photos.page.drawing import Edit, with_edits, without_crumbs
from photos.page.files import mask_at

SHAPE = (40, 60)
EMPTY = np.zeros(SHAPE, np.uint8)


def label(tool: str, *points: list[float], radius: float = 2, on: np.ndarray = EMPTY) -> np.ndarray:
    return with_edits(on, [Edit(tool=tool, value=1, radius=radius, points=[*points])])


def test_a_box_covers_its_pixels() -> None:
    expected = EMPTY.copy()
    expected[5:20, 10:30] = 1
    np.testing.assert_array_equal(label("box", [30, 20], [10, 5]), expected)


def test_an_eraser_clears_what_it_covers() -> None:
    box = label("box", [30, 20], [10, 5])
    assert not label("eraser", [20, 12], radius=30, on=box).any()


def test_an_outline_covers_what_it_encloses() -> None:
    assert label("outline", [0, 0], [4, 0], [4, 3], [0, 3]).sum() == 12


def test_a_brush_covers_its_stroke() -> None:
    brush = label("brush", [10, 20], [40, 20], radius=3)
    assert brush[20, 10:41].all()
    assert brush[18, 25]
    assert not brush[30].any()


def test_a_point_covers_its_place_and_leaves_the_extent_unknown() -> None:
    point = label("point", [30, 20])
    assert [point[20, 30], point[20, 35], point[20, 45]] == [1, 255, 0]


@pytest.fixture(params=[None, 1.5], ids=["without calibration", "calibrated"])
def prediction(request: pytest.FixtureRequest) -> Prediction:
    """Return a prediction of two classes in smooth regions, without specks."""
    noise = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
    margins = 20 * np.stack([cv2.GaussianBlur(channel, (0, 0), 8) for channel in noise])
    calibration = None
    if request.param is not None:
        calibration = Calibration("", "", "", "", 0.7, request.param, [1.0], 0.5, 0.6)
    photo = np.zeros((*SHAPE, 3), np.uint8)
    return Prediction.from_margins(photo, ["a", "b"], margins, [0.6, 0.7], calibration)


def test_at_the_own_threshold_the_mask_is_the_networks(prediction: Prediction) -> None:
    mask = mask_at(prediction.probability, prediction.own_threshold, [True, True])
    assert (mask != prediction.mask).mean() < 0.001


def test_a_higher_threshold_takes_pixels_away(prediction: Prediction) -> None:
    thresholds = [prediction.own_threshold**power for power in (1.3, 1, 0.7)]
    low, middle, high = (mask_at(prediction.probability, threshold, [True, True]) for threshold in thresholds)
    assert (low > 0).sum() > (middle > 0).sum() > (high > 0).sum() > 0
    assert (low[high > 0] == high[high > 0]).all()


def test_a_class_that_is_not_shown_has_no_pixels(prediction: Prediction) -> None:
    mask = mask_at(prediction.probability, prediction.own_threshold, [False, True])
    assert not (mask == 1).any()


def test_what_a_cut_leaves_of_a_mask_goes_and_small_parts_that_nobody_cut_stay() -> None:
    network = EMPTY.copy()
    network[:30, :40] = 1
    network[35:37, 50:52] = 1
    cut = network.copy()
    cut[2:4, :40] = 0
    cut[:2, 5:40] = 0
    cut[0, 30] = 1
    assert network[0, 30] == 1
    out = without_crumbs(network, cut)
    assert not out[:4].any()
    assert (out[4:] == network[4:]).all()
    cut[38, 2] = 1
    assert without_crumbs(network, cut)[38, 2] == 1  # drawn
