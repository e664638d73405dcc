"""Tests of the training augmentation: exact special cases, keeping the target, and the draws' statistics."""

from itertools import product

import cv2
import numpy as np
import pytest

from tests.data.drawn import drawn_label, noise, seeded, warped
from util.config.settings import AugmentSettings
from util.data import augmentation
from util.data.augmentation import draw_warp

MEAN_RGB, IGNORE = (124, 116, 104), 255
DRAWS = 400
UNTOUCHED = seeded(DRAWS - 1).random(6)[5]  # after scale, angle and three chances


def _augment(**changes) -> AugmentSettings:
    """Return settings that leave an image as it is, but for ``changes``."""
    return AugmentSettings(**{"scale": [1, 1], "changes": [], **changes})


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every change that the settings name takes place."""
    monkeypatch.setattr(augmentation, "CHANCE", 1)


def _well_within(region: np.ndarray) -> np.ndarray:
    """Return the region without the pixels next to its edge or the image's."""
    return cv2.erode(region.astype(np.uint8), np.ones((3, 3)), borderType=cv2.BORDER_CONSTANT, borderValue=0) == 1


def test_scale_changes_the_sharpness_of_a_squeezed_image() -> None:
    image = noise(120, 90)
    label = drawn_label(120, 90)
    sharp, _ = warped(image, label, 65, _augment(fit="stretch"), seeded())
    coarse, _ = warped(image, label, 65, _augment(fit="stretch", scale=[0.25, 0.25]), seeded())
    assert _sharpness(coarse) < 0.8 * _sharpness(sharp)


def _sharpness(image: np.ndarray) -> float:
    """Return the mean difference between neighbours in a column."""
    return np.abs(np.diff(image.astype(float), axis=0)).mean()


def test_rotation_turns_about_the_centre(monkeypatch: pytest.MonkeyPatch, always) -> None:
    monkeypatch.setattr(augmentation, "ROTATION", 90)
    image, label = np.full((101, 101, 3), 40, np.uint8), np.zeros((101, 101), np.uint8)
    image[48:53, 48:53] = 220
    label[48:53, 48:53] = 1
    filled_pixels = []
    for seed in range(10):
        out, out_label = warped(image, label, 101, _augment(changes=["rotate"]), seeded(seed))
        places = np.argwhere(out_label == 1)
        assert (abs(places.mean(axis=0) - 50) <= 1.5).all() and 20 <= len(places) <= 30
        assert out[50, 50].min() > 150
        outside, inside = (_well_within(out_label == value) for value in (IGNORE, 0))
        assert (out[outside] == MEAN_RGB).all() and (out[inside & (out_label != 1)] == 40).all()
        filled_pixels.append(outside.sum())
    assert max(filled_pixels) > 100


def test_a_rotation_by_nothing_and_a_flip_mirror_every_pixel(monkeypatch: pytest.MonkeyPatch, always) -> None:
    monkeypatch.setattr(augmentation, "ROTATION", 0)
    image = noise(33, 33)
    label = drawn_label(33, 33)
    out, out_label = warped(image, label, 33, _augment(changes=["rotate", "flip"]), seeded())
    assert np.array_equal(out, image[:, ::-1])
    assert np.array_equal(out_label, label[:, ::-1])


def test_a_stretched_view_is_blurred_but_its_label_has_no_further_class(always) -> None:
    image = noise(33, 33)
    label = drawn_label(33, 33)
    out, out_label = warped(image, label, 33, _augment(fit="stretch", changes=["blur"]), seeded())
    assert np.array_equal(out, cv2.GaussianBlur(np.dstack([image, label]), (5, 5), 0)[:, :, :3])
    assert np.array_equal(out_label, label)
    for scale in (1, 0.7):
        _, small_label = warped(image, label, 20, _augment(fit="stretch", scale=[scale, scale]), seeded())
        assert {*np.unique(small_label)} <= {*np.unique(label)}


@pytest.mark.parametrize("flip", [False, True])
def test_black_padding_at_the_end_lies_below_and_right_and_flips_with_the_image(flip: bool, always) -> None:
    image = noise(20, 30)
    label = drawn_label(20, 30)
    out, out_label = warped(image, label, 41, _augment(changes=["flip"] if flip else [], pad="black"), seeded())
    if flip:
        out = out[:, ::-1]
        out_label = out_label[:, ::-1]
    assert np.array_equal(out, np.pad(image, ((0, 21), (0, 11), (0, 0))))
    assert np.array_equal(out_label, np.pad(label, ((0, 21), (0, 11)), constant_values=IGNORE))


def _kept_shares(keep: float) -> np.ndarray:
    """Return the target's share that crops of 97 px of a 200 x 160 image keep, over many draws."""
    image = np.zeros((200, 160, 3), np.uint8)
    label = np.zeros((200, 160), np.uint8)
    label[50:80, 100:140] = 1
    augment = _augment(keep_target=keep)
    kept = [(warped(image, label, 97, augment, seeded(seed))[1] == 1).sum() for seed in range(DRAWS)]
    return np.array(kept) / label.sum()


def test_crop_keeps_the_target_where_it_can() -> None:
    assert (_kept_shares(0) < 0.85).mean() > 0.4  # else the test shows nothing
    assert _kept_shares(0.85).min() >= 0.85


def test_a_crop_begins_at_each_place_that_holds_it() -> None:
    warp = draw_warp(34, 35, _augment(), seeded())
    corners = {augmentation._draw_corner(warp, 33, _augment(), seeded(seed)) for seed in range(DRAWS)}
    assert corners == {*product(range(2), range(3))}


def test_a_crop_that_keeps_its_target_ignores_what_lies_outside_the_image() -> None:
    augment = _augment(keep_target=0.5, pad="black")
    out, label = warped(noise(60, 160), np.ones((60, 160), np.uint8), 97, augment, seeded())
    assert (label[:60] == 1).all() and (label[60:] == IGNORE).all() and not out[60:].any()


def test_a_crop_that_cannot_keep_its_target_is_drawn_again_31_times(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = []
    draw = augmentation._draw_corner
    monkeypatch.setattr(augmentation, "_draw_corner", lambda *options: draws.append(1) or draw(*options))
    warped(noise(200, 160), np.ones((200, 160), np.uint8), 97, _augment(keep_target=1.0), seeded())
    assert len(draws) == 1 + 31


@pytest.mark.parametrize("names", [[], ["flip"], ["blur", "flip"], ["rotate", "blur", "flip"]])
def test_each_change_that_is_named_takes_place_in_half_of_the_images(names: list[str]) -> None:
    augment = _augment(changes=names)
    changes = []
    for seed in range(DRAWS):
        random = seeded(seed)
        warp = draw_warp(50, 50, augment, random)
        changes.append((warp.blur, warp.matrix[0, 0] < 0, abs(warp.matrix[1, 0]) > 1e-12))
    assert random.random() == UNTOUCHED  # as many random numbers are drawn whatever happens
    for share, name in zip(np.mean(changes, axis=0), ("blur", "flip", "rotate"), strict=True):
        assert share == pytest.approx(0.5, abs=0.08) if name in names else share == 0
