"""Sizing and augmentation: one composed warp per training image, and the evaluation's fixed rule.

The specification's chain is scale, rotation, blur, flip, crop (section 9); here scale, rotation, flip and crop are one
affine map, sampled once (or a resize, where nothing turns) for what the crop shows, and the blur follows on the crop.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from model.contract import IGNORE
from util.config.settings import AugmentSettings
from util.data.images import CLASS_CHANNEL, PICTURE_CHANNELS

MEAN_RGB = (124, 116, 104)  # ImageNet's mean in 0..255
PADDING = {"mean": MEAN_RGB, "black": (0, 0, 0)}  # colours of padding
BLUR_KERNEL = (5, 5)
BLOCK = 8  # evaluation sizes are whole multiples of it

Window = tuple[slice, slice]  # rows, columns


@dataclass(frozen=True)
class Warp:
    """A drawn augmentation: the canvas after scale, rotation and flip, and where the crop lies on it."""

    to_canvas: np.ndarray  # (2, 3): original pixel -> canvas pixel
    canvas: tuple[int, int]  # (height, width)
    blur: bool
    flipped: bool = False
    turned: bool = False

    @property
    def whole(self) -> Window:
        """The canvas as a window."""
        return slice(0, self.canvas[0]), slice(0, self.canvas[1])

    def part(self, image: np.ndarray, window: Window, rule: int, outside: int | tuple[int, ...]) -> np.ndarray:
        """Return a window of the canvas that an image (H, W) or (H, W, 4) gives by one of OpenCV's interpolations.

        ``outside`` is the value of what is turned into view. An image that is not turned is resized, which is faster
        than an affine map.
        """
        rows, columns = window
        if self.turned:
            matrix = self.to_canvas - np.array([[0, 0, columns.start], [0, 0, rows.start]])
            size = (columns.stop - columns.start, rows.stop - rows.start)
            return cv2.warpAffine(image, matrix, size, flags=rule, borderValue=outside)
        exact = cv2.INTER_NEAREST_EXACT if rule == cv2.INTER_NEAREST else rule  # half-pixel centres
        resized = cv2.resize(image, self.canvas[::-1], interpolation=exact)
        return (cv2.flip(resized, 1) if self.flipped else resized)[window]


def draw_warp(height: int, width: int, augment: AugmentSettings, random: np.random.Generator) -> Warp:
    """Draw scale, rotation, flip and blur for an image; always the same count of numbers from ``random``."""
    scale = random.uniform(*augment.scale)
    angle = random.uniform(-augment.rotate, augment.rotate)
    rotates, blurs, flips = random.random(3) < (
        augment.rotate_probability,
        augment.blur_probability,
        augment.flip_probability,
    )
    new_height, new_width = max(round(height * scale), 1), max(round(width * scale), 1)
    # Half-pixel convention: (x + 0.5) * scale - 0.5.
    sx, sy = new_width / width, new_height / height
    matrix = np.array([[sx, 0, 0.5 * sx - 0.5], [0, sy, 0.5 * sy - 0.5], [0, 0, 1]])
    if rotates:
        turn = cv2.getRotationMatrix2D((new_width / 2, new_height / 2), angle, 1)
        matrix = np.vstack([turn, [0, 0, 1]]) @ matrix
    if flips:
        matrix = np.array([[-1, 0, new_width - 1], [0, 1, 0], [0, 0, 1]]) @ matrix
    return Warp(matrix[:2], (new_height, new_width), bool(blurs), bool(flips), bool(rotates))


def warp_training(
    picture: np.ndarray, size: int, augment: AugmentSettings, random: np.random.Generator, target: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return a random view of a picture (H, W, 4): image (3, size, size) and class indices (size, size), uint8.

    It is a crop or, with ``augment.fit: stretch``, all of the changed picture with its aspect given up. Outside the
    picture lie the padding's colour and 255. With ``augment.keep_target`` the crop is redrawn until it holds that share
    of the pixels of class ``target``, at most ``keep_tries`` times.
    """
    warp = draw_warp(*picture.shape[:2], augment, random)
    classes, colour = cv2.extractChannel(picture, CLASS_CHANNEL), (*PADDING[augment.pad], IGNORE)
    if augment.fit == "stretch":
        return _stretched(picture, classes, warp, size, colour)
    corner = _draw_corner(warp, size, augment, random)
    if augment.keep_target and max(warp.canvas) > size:  # else all that there is lies within the crop
        classes = warp.part(classes, warp.whole, cv2.INTER_NEAREST, IGNORE)
        corner = _keep_target(cv2.compare(classes, target, cv2.CMP_EQ), corner, warp, size, augment, random)
        shown = classes[_window(warp, corner, size)]
    else:
        shown = warp.part(classes, _window(warp, corner, size), cv2.INTER_NEAREST, IGNORE)
    part = warp.part(picture, _window(warp, corner, size), cv2.INTER_LINEAR, colour)
    planes = np.empty((PICTURE_CHANNELS, size, size), np.uint8)
    cv2.split(_padded(part, corner, size, colour), list(planes))
    image = planes[:CLASS_CHANNEL]
    if warp.blur:
        for plane in image:
            cv2.GaussianBlur(plane, BLUR_KERNEL, 0, dst=plane)
    return image, _padded(shown, corner, size, IGNORE)


def _stretched(
    picture: np.ndarray, classes: np.ndarray, warp: Warp, size: int, colour: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return all of the canvas at size x size, as ``warp_training`` returns its crop."""
    part = warp.part(picture, warp.whole, cv2.INTER_LINEAR, colour)
    part = cv2.GaussianBlur(part, BLUR_KERNEL, 0) if warp.blur else part
    planes = np.empty((PICTURE_CHANNELS, size, size), np.uint8)
    cv2.split(cv2.resize(part, (size, size), interpolation=cv2.INTER_LINEAR), list(planes))
    label = warp.part(classes, warp.whole, cv2.INTER_NEAREST, IGNORE)
    return planes[:CLASS_CHANNEL], cv2.resize(label, (size, size), interpolation=cv2.INTER_NEAREST)


def _window(warp: Warp, corner: tuple[int, int], size: int) -> Window:
    """Return the rows and columns of the canvas that a crop shows."""
    rows, columns = (slice(max(c, 0), min(c + size, n)) for c, n in zip(corner, warp.canvas))
    return rows, columns


def _padded(part: np.ndarray, corner: tuple[int, int], size: int, padding: int | tuple[int, ...]) -> np.ndarray:
    """Return the crop: what it shows of the canvas, and padding where it reaches beyond."""
    above, before = (max(-c, 0) for c in corner)
    below, after = (size - n - side for n, side in zip((above, before), part.shape))
    return cv2.copyMakeBorder(part, above, below, before, after, cv2.BORDER_CONSTANT, value=padding)


def _draw_corner(warp: Warp, size: int, augment: AugmentSettings, random: np.random.Generator) -> tuple[int, int]:
    """Draw the crop's top left on the canvas (negative where the canvas is smaller and lies within padding).

    Padding ``at: end`` lies below and, since it is there before the flip, on the side the image's right went to.
    """

    def before(missing: int, at_start: bool) -> int:
        return missing // 2 if augment.pad_at == "around" else missing * at_start

    starts = zip(warp.canvas, (False, warp.flipped))
    top, left = (_draw_offset(n, size, before(max(size - n, 0), flip), random) for n, flip in starts)
    return top, left


def _keep_target(
    target: np.ndarray,
    corner: tuple[int, int],
    warp: Warp,
    size: int,
    augment: AugmentSettings,
    random: np.random.Generator,
) -> tuple[int, int]:
    """Return the first corner, from the given one on, whose crop keeps enough of a mask on the canvas."""
    wanted = augment.keep_target * cv2.countNonZero(target)
    for _ in range(augment.keep_tries):
        if cv2.countNonZero(target[_window(warp, corner, size)]) >= wanted:
            break
        corner = _draw_corner(warp, size, augment, random)
    return corner


def _draw_offset(length: int, size: int, padding_before: int, random: np.random.Generator) -> int:
    if length <= size:
        return -padding_before
    return int(random.integers(0, length - size + 1))


def fitted_sides(shape: tuple[int, int], size: int) -> tuple[int, int]:
    """Return the height and width that an image of ``shape`` has on the evaluation canvas."""
    height, width = (max(int(side * size / max(shape)) // BLOCK * BLOCK, BLOCK) for side in shape)
    return height, width


def fit_letterbox(image: np.ndarray, label: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the evaluation view: longer side to ``size``, at the top left of a square canvas.

    Both new sides are int(side * size / longer) // 8 * 8; the image is resized bilinearly in float32 on half-pixel
    centres and not rounded, the label by nearest neighbour; the rest of the canvas is 0 and 255.

    Returns:
        image (size, size, 3) float32 in 0..255, label (size, size) uint8.
    """
    new_height, new_width = fitted_sides(label.shape, size)
    canvas = np.zeros((size, size, 3), np.float32)
    canvas[:new_height, :new_width] = cv2.resize(
        image.astype(np.float32), (new_width, new_height), interpolation=cv2.INTER_LINEAR
    )
    out_label = np.full((size, size), IGNORE, np.uint8)
    out_label[:new_height, :new_width] = cv2.resize(label, (new_width, new_height), interpolation=cv2.INTER_NEAREST)
    return canvas, out_label
