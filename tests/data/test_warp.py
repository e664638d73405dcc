"""Tests of the training augmentation: exact special cases, keeping the target, and the draws' statistics."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.data.drawn import drawn_label, noise, seeded, smooth, warped
from util.config.settings import AugmentSettings
from util.data.views import stretch_label
from util.data.warp import draw_warp, fit_letterbox

MEAN_RGB, IGNORE = (124, 116, 104), 255
DRAWS = 400


def _augment(**changes) -> AugmentSettings:
    """Return settings that leave an image as it is, but for ``changes``."""
    still = {"scale": [1, 1], "rotate": 10, "rotate_probability": 0, "blur_probability": 0, "flip_probability": 0}
    return AugmentSettings(**{**still, **changes})


def _well_within(region: np.ndarray) -> np.ndarray:
    """Return the region without the pixels next to its edge or the image's."""
    options = {"borderType": cv2.BORDER_CONSTANT, "borderValue": 0}
    return cv2.erode(region.astype(np.uint8), np.ones((3, 3)), **options) == 1


# --- exact special cases of the training warp ------------------------------------------------------------------------


def test_no_change_leaves_an_image_of_crop_size_as_it_is() -> None:
    for seed in range(5):
        image, label = noise(33, 33, seed), drawn_label(33, 33, seed=seed)
        out, out_label = warped(image, label, 33, _augment(), seeded(seed))
        assert (out == image).all() and (out_label == label).all()
        assert out.dtype == out_label.dtype == np.uint8


def test_flip_only_mirrors() -> None:
    image, label = noise(33, 33), drawn_label(33, 33)
    out, out_label = warped(image, label, 33, _augment(flip_probability=1), seeded())
    assert (out == image[:, ::-1]).all() and (out_label == label[:, ::-1]).all()


def test_squeezing_keeps_all_of_the_image_and_gives_up_its_aspect() -> None:
    image, label = smooth(60, 90), drawn_label(60, 90)
    for flip in (0, 1):
        out, out_label = warped(image, label, 33, _augment(fit="stretch", flip_probability=flip), seeded())
        turned, turned_label = (x[:, ::-1] if flip else x for x in (image, label))
        assert (out == cv2.resize(turned.copy(), (33, 33), interpolation=cv2.INTER_LINEAR)).all()
        assert (out_label == stretch_label(turned_label, 33)).all()


def test_scale_changes_the_sharpness_of_a_squeezed_image_and_nothing_else() -> None:
    image, label = smooth(120, 90), drawn_label(120, 90)
    still = _augment(fit="stretch")
    coarse = _augment(fit="stretch", scale=[0.25, 0.25])
    views = [warped(noise(120, 90), label, 65, augment, seeded())[0].astype(float) for augment in (still, coarse)]
    assert np.abs(np.diff(views[1], axis=0)).mean() < 0.8 * np.abs(np.diff(views[0], axis=0)).mean()
    same = [warped(image, label, 65, augment, seeded())[0].astype(float) for augment in (still, coarse)]
    assert np.abs(same[0] - same[1]).mean() < 4
    turned = _augment(fit="stretch", rotate=90, rotate_probability=1)
    out, out_label = warped(image, np.zeros_like(label), 65, turned, seeded(1))
    assert (out_label == IGNORE).any() and (out[out_label == IGNORE] == MEAN_RGB).all(1).mean() > 0.9


def test_flip_mirrors_the_scaled_and_rotated_image() -> None:
    image, label = smooth(80, 80), drawn_label(80, 80)
    settings = {"scale": [0.8, 0.8], "rotate_probability": 1}
    plain, plain_label = warped(image, label, 64, _augment(**settings), seeded(3))
    out, out_label = warped(image, label, 64, _augment(**settings, flip_probability=1), seeded(3))
    assert np.abs(out[:, ::-1].astype(int) - plain).mean() < 1
    assert (out_label[:, ::-1] != plain_label).mean() < 0.02


def test_blur_only_blurs_the_image_and_not_the_label() -> None:
    image, label = noise(33, 33), drawn_label(33, 33)
    out, out_label = warped(image, label, 33, _augment(blur_probability=1), seeded())
    assert (out == cv2.GaussianBlur(image, (5, 5), 0)).all() and (out_label == label).all()


@pytest.mark.parametrize("scale", [0.5, 0.73, 0.9, 1.1, 1.25, 2.0])
def test_scale_only_is_a_resize(scale: float) -> None:
    image, label = smooth(100, 100), drawn_label(100, 100, (0, 3, 7))
    size = round(100 * scale)
    out, out_label = warped(image, label, size, _augment(scale=[scale, scale]), seeded())
    assert (out == cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)).all()
    centres = np.clip(np.round((np.arange(size) + 0.5) * 100 / size - 0.5).astype(int), 0, 99)
    assert (out_label != label[np.ix_(centres, centres)]).mean() < 0.05


def test_rotation_turns_about_the_centre() -> None:
    image, label = np.full((101, 101, 3), 40, np.uint8), np.zeros((101, 101), np.uint8)
    image[48:53, 48:53], label[48:53, 48:53] = 220, 1
    for seed in range(10):
        out, out_label = warped(image, label, 101, _augment(rotate=90, rotate_probability=1), seeded(seed))
        rows, columns = np.nonzero(out_label == 1)
        assert abs(rows.mean() - 50) <= 1.5 and abs(columns.mean() - 50) <= 1.5
        assert 20 <= len(rows) <= 30
        assert out[50, 50].min() > 150


def test_rotation_fills_with_mean_colour_and_ignored_label() -> None:
    image, label = np.full((65, 65, 3), 10, np.uint8), np.zeros((65, 65), np.uint8)
    filled = 0
    for seed in range(10):
        augment = _augment(rotate=45, rotate_probability=1)
        out, out_label = warped(image, label, 65, augment, seeded(seed))
        outside, inside = (_well_within(out_label == value) for value in (IGNORE, 0))
        assert (out[outside] == MEAN_RGB).all() and (out[inside] == 10).all()
        assert inside.sum() > 2000
        filled = max(filled, outside.sum())
    assert filled > 100


def test_padding_is_mean_colour_and_ignored_label_around_a_centred_image() -> None:
    image, label = noise(20, 30), drawn_label(20, 30)
    out, out_label = warped(image, label, 41, _augment(), seeded())
    assert (out[10:30, 5:35] == image).all() and (out_label[10:30, 5:35] == label).all()
    frame = np.ones((41, 41), bool)
    frame[10:30, 5:35] = False
    assert (out[frame] == MEAN_RGB).all() and (out_label[frame] == IGNORE).all()


@pytest.mark.parametrize("flip", [0, 1])
def test_black_padding_at_the_end_lies_below_and_right_and_flips_with_the_image(flip: int) -> None:
    image, label = noise(20, 30), drawn_label(20, 30)
    augment = _augment(flip_probability=flip, pad="black", pad_at="end")
    out, out_label = warped(image, label, 41, augment, seeded())
    if flip:
        out, out_label = out[:, ::-1], out_label[:, ::-1]
    assert (out[:20, :30] == image).all() and (out_label[:20, :30] == label).all()
    assert (out[20:] == 0).all() and (out[:, 30:] == 0).all()
    assert (out_label[20:] == IGNORE).all() and (out_label[:, 30:] == IGNORE).all()


def test_label_holds_original_values_and_ignored_pixels_only() -> None:
    augment = AugmentSettings(scale=[0.5, 2.0])
    for seed in range(30):
        image, label = noise(70, 90, seed), drawn_label(70, 90, (0, 2, 9, 20), seed)
        out, out_label = warped(image, label, 65, augment, seeded(seed))
        assert out.shape == (65, 65, 3) and out_label.shape == (65, 65)
        assert set(np.unique(out_label)) <= {0, 2, 9, 20, IGNORE}
        assert len(set(np.unique(out_label))) >= 3


def test_arguments_are_not_changed() -> None:
    image, label = noise(70, 50), drawn_label(70, 50)
    copies = image.copy(), label.copy()
    warped(image, label, 33, AugmentSettings(keep_target=0.85), seeded())
    fit_letterbox(image, label, 33)
    assert (image == copies[0]).all() and (label == copies[1]).all()


def test_same_random_stream_gives_the_same_view() -> None:
    image, label, augment = noise(90, 70), drawn_label(90, 70, (0, 1)), AugmentSettings(keep_target=0.85)
    first = warped(image, label, 49, augment, seeded(5))
    again = warped(image, label, 49, augment, seeded(5))
    other = warped(image, label, 49, augment, seeded(6))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert (first[0] != other[0]).any()


# --- keeping the target ----------------------------------------------------------------------------------------------


def _kept_shares(target: tuple[slice, slice], size: int, keep: float, tries: int = 30) -> np.ndarray:
    """Return the target's share that crops of a 200 x 160 image keep, over many draws."""
    image, label = np.zeros((200, 160, 3), np.uint8), np.zeros((200, 160), np.uint8)
    label[target] = 1
    augment = _augment(keep_target=keep, keep_tries=tries)
    views = (warped(image, label, size, augment, seeded(seed))[1] for seed in range(DRAWS))
    return np.array([(view == 1).sum() for view in views]) / label.sum()


def test_crop_keeps_the_target_where_it_can() -> None:
    target = (slice(50, 80), slice(100, 140))
    free, kept = _kept_shares(target, 97, 0), _kept_shares(target, 97, 0.85)
    assert (free < 0.85).mean() > 0.4  # else the test shows nothing
    assert kept.min() >= 0.85


def test_crop_of_a_scaled_turned_and_flipped_target_keeps_it_too() -> None:
    image, label = np.zeros((200, 160, 3), np.uint8), np.zeros((200, 160), np.uint8)
    label[50:80, 90:130] = 1
    for seed in range(100):
        augment = AugmentSettings(scale=[0.9, 1.1], keep_target=0.85)
        scale = draw_warp(200, 160, augment, seeded(seed)).size[0] / 200
        view = warped(image, label, 113, augment, seeded(seed))[1]
        assert (view == 1).sum() >= 0.8 * scale**2 * label.sum()  # rounding at the target's edge


def test_only_value_one_is_the_target() -> None:
    image, label = np.zeros((200, 160, 3), np.uint8), np.full((200, 160), 2, np.uint8)
    free = warped(image, label, 97, _augment(), seeded(1))[1]
    kept = warped(image, label, 97, _augment(keep_target=0.85), seeded(1))[1]
    assert (free == kept).all()  # no target: the first crop stays


def test_target_larger_than_the_crop_ends_the_redrawing() -> None:
    shares = _kept_shares((slice(0, 200), slice(0, 160)), 97, 0.85)
    assert np.allclose(shares, 97 * 97 / (200 * 160))


def test_a_single_try_redraws_once() -> None:
    target = (slice(50, 80), slice(100, 140))
    lost = [(_kept_shares(target, 97, 0.85, tries) < 0.85).mean() for tries in (1, 3, 30)]
    free = (_kept_shares(target, 97, 0) < 0.85).mean()
    assert lost[0] == pytest.approx(free**2, abs=0.1)
    assert lost[1] == pytest.approx(free**4, abs=0.1)
    assert lost[2] == 0


# --- statistics ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [[0.9, 1.1], [0.5, 2.0], [0.8, 1.25]])
def test_draws_have_the_settings_statistics(scale: list[float]) -> None:
    warps = [draw_warp(1000, 800, AugmentSettings(scale=scale), seeded(seed)) for seed in range(DRAWS)]
    scales = np.array([w.size[0] / 1000 for w in warps])
    assert scale[0] - 1e-3 <= scales.min() and scales.max() <= scale[1] + 1e-3
    width = scale[1] - scale[0]
    assert scales.min() < scale[0] + 0.03 * width and scales.max() > scale[1] - 0.03 * width
    assert scales.mean() == pytest.approx(sum(scale) / 2, abs=0.08 * width)
    assert scales.std() == pytest.approx(width / 12**0.5, rel=0.15)
    assert all(abs(w.size[1] - 0.8 * w.size[0]) <= 1 for w in warps)
    flips = np.array([w.matrix[0, 0] < 0 for w in warps])
    blurs = np.array([w.blur for w in warps])
    turns = np.array([abs(w.matrix[1, 0]) > 1e-12 for w in warps])
    for happened in (flips, blurs, turns):
        assert happened.mean() == pytest.approx(0.5, abs=0.1)  # four standard deviations
    for one, other in ((flips, blurs), (flips, turns), (blurs, turns)):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.2


def test_angles_cover_the_range_evenly() -> None:
    augment = _augment(rotate_probability=1, rotate=10)
    maps = [draw_warp(300, 300, augment, seeded(seed)).matrix for seed in range(DRAWS)]
    angles = np.degrees([np.arctan2(m[0, 1], m[0, 0]) for m in maps])
    assert np.abs(angles).max() <= 10 + 1e-9
    assert angles.min() < -9.4 and angles.max() > 9.4
    assert abs(angles.mean()) < 1.2
    assert angles.std() == pytest.approx(20 / 12**0.5, rel=0.15)


@pytest.mark.parametrize("probability", [0, 0.2, 1])
def test_probabilities_are_followed(probability: float) -> None:
    augment = _augment(rotate_probability=probability, blur_probability=probability, flip_probability=probability)
    warps = [draw_warp(50, 50, augment, seeded(seed)) for seed in range(DRAWS)]
    for share in (
        np.mean([w.blur for w in warps]),
        np.mean([w.matrix[0, 0] < 0 for w in warps]),
        np.mean([abs(w.matrix[1, 0]) > 1e-12 for w in warps]),
    ):
        assert share == pytest.approx(probability, abs=0.08 if 0 < probability < 1 else 0)


def test_warps_keep_shapes() -> None:
    for seed in range(50):
        height, width = (int(v) for v in seeded(seed).integers(20, 300, 2))
        warp = draw_warp(height, width, AugmentSettings(scale=[0.5, 2.0]), seeded(seed))
        linear = warp.matrix[:, :2]
        sy, sx = warp.size[0] / height, warp.size[1] / width
        assert abs(np.linalg.det(linear)) == pytest.approx(sx * sy)
        assert np.linalg.norm(linear, axis=0) == pytest.approx([sx, sy])


def test_as_many_random_numbers_are_drawn_whatever_happens() -> None:
    states = set()
    for augment in (_augment(), AugmentSettings(), _augment(rotate_probability=1, flip_probability=1)):
        random = seeded(8)
        draw_warp(50, 60, augment, random)
        states.add(str(random.bit_generator.state))
    assert len(states) == 1


def test_crop_offsets_cover_the_range_evenly() -> None:
    image = np.zeros((60, 50, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(60)[:, None], np.arange(50)[None]
    label = np.zeros((60, 50), np.uint8)
    corners = []
    for seed in range(700):
        out, out_label = warped(image, label, 33, _augment(), seeded(seed))
        top, left = int(out[0, 0, 0]), int(out[0, 0, 1])
        assert (out == image[top : top + 33, left : left + 33]).all() and not out_label.any()
        corners.append((top, left))
    tops, lefts = (np.array(c) for c in zip(*corners, strict=True))
    assert set(tops.tolist()) == set(range(28)) and set(lefts.tolist()) == set(range(18))
    assert tops.mean() == pytest.approx(13.5, abs=1.2) and lefts.mean() == pytest.approx(8.5, abs=0.8)
    assert abs(np.corrcoef(tops, lefts)[0, 1]) < 0.15


def test_one_side_may_be_padded_while_the_other_is_cropped() -> None:
    image, label = noise(20, 100), np.zeros((20, 100), np.uint8)
    for seed in range(10):
        out, out_label = warped(image, label, 33, _augment(), seeded(seed))
        inside = out_label == 0
        assert inside[6:26].all() and not inside[:6].any() and not inside[26:].any()
        assert any((out[6:26] == image[:, left : left + 33]).all() for left in range(68))
