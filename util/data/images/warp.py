"""Sizing and augmentation: one composed warp per training image, and the letterbox of the evaluation.

The published augmentation is the chain scale, rotation, blur, flip, crop. Here scale, rotation, flip and crop are one
affine map (a resize for images that are not rotated), which is sampled once and only inside the crop; the blur follows.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from model.episode import IGNORE
from util.config.settings import AugmentSettings
from util.data.images.read import CLASS_CHANNEL, STACKED_CHANNELS

MEAN_RGB = (124, 116, 104)  # ImageNet's mean in 0..255
PADDING = {"mean": MEAN_RGB, "black": (0, 0, 0)}  # colours of padding
BLUR_KERNEL = (5, 5)
BLOCK = 8  # evaluation sizes are whole multiples of it

Window = tuple[slice, slice]  # rows, columns


@dataclass(frozen=True)
class Warp:
    """A sampled augmentation: a map from the original to the warped image, which is later cropped."""

    matrix: np.ndarray  # (2, 3): pixel of the original -> pixel of the warped image
    size: tuple[int, int]  # (height, width) of the warped image
    blur: bool
    flipped: bool = False
    rotated: bool = False

    @property
    def full(self) -> Window:
        """The window of the whole warped image."""
        return slice(0, self.size[0]), slice(0, self.size[1])

    def render(
        self, image: np.ndarray, window: Window, interpolation: int, outside: int | tuple[int, ...]
    ) -> np.ndarray:
        """Return a window of the warped image of an image (H, W) or (H, W, 4).

        ``interpolation`` is one of OpenCV's; ``outside`` is the value of pixels that a rotation brings into view. An
        image that is not rotated is resized, which is faster than an affine map.
        """
        rows, columns = window
        if self.rotated:
            matrix = self.matrix - np.array([[0, 0, columns.start], [0, 0, rows.start]])
            size = (columns.stop - columns.start, rows.stop - rows.start)
            border = outside if isinstance(outside, tuple) else (outside,)
            return cv2.warpAffine(image, matrix, size, flags=interpolation, borderValue=border)
        exact = cv2.INTER_NEAREST_EXACT if interpolation == cv2.INTER_NEAREST else interpolation  # half-pixel centres
        resized = cv2.resize(image, self.size[::-1], interpolation=exact)
        return (cv2.flip(resized, 1) if self.flipped else resized)[window]


def draw_warp(height: int, width: int, augment: AugmentSettings, random: np.random.Generator) -> Warp:
    """Sample scale, rotation, flip and blur for an image; always takes the same count of numbers from ``random``."""
    smallest, largest = augment.scale
    scale = random.uniform(smallest, largest)
    angle = random.uniform(-augment.rotate, augment.rotate)
    rotates, blurs, flips = random.random(3) < (
        augment.rotate_probability,
        augment.blur_probability,
        augment.flip_probability,
    )
    new_height, new_width = max(round(height * scale), 1), max(round(width * scale), 1)
    # Half-pixel centres: (x + 0.5) * scale - 0.5.
    sx, sy = new_width / width, new_height / height
    matrix = np.array([[sx, 0, 0.5 * sx - 0.5], [0, sy, 0.5 * sy - 0.5], [0, 0, 1]])
    if rotates:
        turn = cv2.getRotationMatrix2D((new_width / 2, new_height / 2), angle, 1)
        matrix = np.vstack([turn, [0, 0, 1]]) @ matrix
    if flips:
        matrix = np.array([[-1, 0, new_width - 1], [0, 1, 0], [0, 0, 1]]) @ matrix
    return Warp(matrix[:2], (new_height, new_width), bool(blurs), bool(flips), bool(rotates))


def warp_training(
    stacked: np.ndarray, size: int, augment: AugmentSettings, random: np.random.Generator, target: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return a random view of a stacked image (H, W, 4): image (3, size, size) and class indices (size, size), uint8.

    The view is a crop of the warped image or, with ``augment.fit: stretch``, the whole warped image, aspect not kept.
    Pixels outside the image get the padding's colour and class 255. With ``augment.keep_target`` the crop is redrawn,
    at most ``keep_tries`` times, until it holds that share of the pixels of class ``target``.
    """
    height, width = stacked.shape[:2]
    warp = draw_warp(height, width, augment, random)
    classes, colour = cv2.extractChannel(stacked, CLASS_CHANNEL), (*PADDING[augment.pad], IGNORE)
    if augment.fit == "stretch":
        return _stretched(stacked, classes, warp, size, colour)
    corner = _draw_corner(warp, size, augment, random)
    if augment.keep_target and max(warp.size) > size:  # else the crop holds the whole warped image
        classes = warp.render(classes, warp.full, cv2.INTER_NEAREST, IGNORE)
        corner = _keep_target((classes == target).view(np.uint8), corner, warp, size, augment, random)
        shown = classes[_window(warp, corner, size)]
    else:
        shown = warp.render(classes, _window(warp, corner, size), cv2.INTER_NEAREST, IGNORE)
    part = warp.render(stacked, _window(warp, corner, size), cv2.INTER_LINEAR, colour)
    planes = np.empty((STACKED_CHANNELS, size, size), np.uint8)
    cv2.split(_padded(part, corner, size, colour), list(planes))
    image = planes[:CLASS_CHANNEL]
    if warp.blur:
        for plane in image:
            cv2.GaussianBlur(plane, BLUR_KERNEL, 0, dst=plane)
    return image, _padded(shown, corner, size, IGNORE)


def _stretched(
    stacked: np.ndarray, classes: np.ndarray, warp: Warp, size: int, colour: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the whole warped image at size x size, image and class indices as in ``warp_training``."""
    part = warp.render(stacked, warp.full, cv2.INTER_LINEAR, colour)
    part = cv2.GaussianBlur(part, BLUR_KERNEL, 0) if warp.blur else part
    planes = np.empty((STACKED_CHANNELS, size, size), np.uint8)
    cv2.split(cv2.resize(part, (size, size), interpolation=cv2.INTER_LINEAR), list(planes))
    label = warp.render(classes, warp.full, cv2.INTER_NEAREST, IGNORE)
    return planes[:CLASS_CHANNEL], cv2.resize(label, (size, size), interpolation=cv2.INTER_NEAREST)


def _window(warp: Warp, corner: tuple[int, int], size: int) -> Window:
    """Return the rows and columns of the warped image that lie inside a crop."""
    rows, columns = (slice(max(c, 0), min(c + size, n)) for c, n in zip(corner, warp.size))
    return rows, columns


def _padded(part: np.ndarray, corner: tuple[int, int], size: int, padding: int | tuple[int, ...]) -> np.ndarray:
    """Return the crop: its part of the warped image, with padding where the crop exceeds it."""
    above, before = (max(-c, 0) for c in corner)
    below, after = (size - n - side for n, side in zip((above, before), part.shape))
    return cv2.copyMakeBorder(part, above, below, before, after, cv2.BORDER_CONSTANT, value=padding)


def _draw_corner(warp: Warp, size: int, augment: AugmentSettings, random: np.random.Generator) -> tuple[int, int]:
    """Draw the crop's top left in the warped image; negative if the warped image is smaller and gets padding.

    With ``pad_at: end`` the padding lies below and at the right of the image before the flip, so at the left of a
    flipped one.
    """

    def before(missing: int, at_start: bool) -> int:
        return missing // 2 if augment.pad_at == "around" else missing * at_start

    starts = zip(warp.size, (False, warp.flipped))
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
    """Return the first corner, beginning with the given one, whose crop keeps enough of a mask of the warped image."""
    wanted = augment.keep_target * cv2.countNonZero(target)
    for _ in range(augment.keep_tries):
        if cv2.countNonZero(target[_window(warp, corner, size)]) >= wanted:
            break
        corner = _draw_corner(warp, size, augment, random)
    return corner


def _draw_offset(length: int, size: int, padding_before: int, random: np.random.Generator) -> int:
    """Draw where a crop of ``size`` begins along one axis of the warped image."""
    if length <= size:
        return -padding_before
    return int(random.integers(0, length - size + 1))


def fitted_sides(shape: tuple[int, int], size: int) -> tuple[int, int]:
    """Return the height and width that an image of ``shape`` has inside the letterbox."""
    height, width = (max(int(side * size / max(shape)) // BLOCK * BLOCK, BLOCK) for side in shape)
    return height, width


def fit_letterbox(image: np.ndarray, label: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an image and its label in a letterbox: longer side resized to ``size``, at the top left of a square.

    Both new sides are int(side * size / longer) // 8 * 8; the image is resized bilinearly in float32 with half-pixel
    centres and not rounded, the label by nearest neighbour; the rest of the square is 0 and 255.

    Returns:
        image (size, size, 3) float32 in 0..255, label (size, size) uint8.
    """
    height, width = label.shape
    new_height, new_width = fitted_sides((height, width), size)
    boxed = np.zeros((size, size, 3), np.float32)
    boxed[:new_height, :new_width] = cv2.resize(
        image.astype(np.float32), (new_width, new_height), interpolation=cv2.INTER_LINEAR
    )
    out_label = np.full((size, size), IGNORE, np.uint8)
    out_label[:new_height, :new_width] = cv2.resize(label, (new_width, new_height), interpolation=cv2.INTER_NEAREST)
    return boxed, out_label
