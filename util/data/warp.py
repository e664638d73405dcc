"""Sizing and augmentation: one composed warp per training image, and the evaluation's fixed rule.

The specification's chain is scale, rotation, blur, flip, crop (section 9); here scale, rotation, flip and crop are one
affine map, sampled once (or a resize, where nothing turns), and the blur follows on the crop.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from model.contract import IGNORE
from util.settings import AugmentSettings

MEAN_RGB = (124, 116, 104)  # ImageNet's mean in 0..255
PADDING = {"mean": MEAN_RGB, "black": (0, 0, 0)}  # colours of padding
BLUR_KERNEL = (5, 5)
BLOCK = 8  # evaluation sizes are whole multiples of it


@dataclass(frozen=True)
class Warp:
    """A drawn augmentation: the canvas after scale, rotation and flip, and where the crop lies on it."""

    to_canvas: np.ndarray  # (2, 3): original pixel -> canvas pixel
    canvas: tuple[int, int]  # (height, width)
    blur: bool
    flipped: bool = False
    turned: bool = False

    def crop_matrix(self, corner: tuple[int, int]) -> np.ndarray:
        """Return the (2, 3) map from original pixels to a crop whose top left lies at ``corner`` (y, x)."""
        return self.to_canvas - np.array([[0, 0, corner[1]], [0, 0, corner[0]]])


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
    image: np.ndarray,
    label: np.ndarray,
    size: int,
    augment: AugmentSettings,
    random: np.random.Generator,
    target: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Return a random (size, size) view of an image (H, W, 3) uint8 and its label (H, W) uint8.

    Outside the image lie the padding's colour and 255. With ``augment.keep_target`` the crop is redrawn until it holds
    that share of the label's pixels of value ``target``, at most ``keep_tries`` times.
    """
    warp = draw_warp(*label.shape, augment, random)
    corner = _choose_corner(label, warp, size, augment, random, target)
    crop = _turned_crop if warp.turned else _straight_crop
    out = crop(image, warp, corner, size, cv2.INTER_LINEAR, PADDING[augment.pad])
    out_label = crop(label, warp, corner, size, cv2.INTER_NEAREST, IGNORE)
    if warp.blur:
        out = cv2.GaussianBlur(out, BLUR_KERNEL, 0)
    return out, out_label


def _turned_crop(
    image: np.ndarray, warp: Warp, corner: tuple[int, int], size: int, rule: int, padding: int | tuple
) -> np.ndarray:
    """Return the crop by one affine map, interpolated by OpenCV's ``rule``."""
    return cv2.warpAffine(image, warp.crop_matrix(corner), (size, size), flags=rule, borderValue=padding)


def _straight_crop(
    image: np.ndarray, warp: Warp, corner: tuple[int, int], size: int, rule: int, padding: int | tuple
) -> np.ndarray:
    """Return the crop of an image that is not turned: a resize, which is several times faster than an affine map."""
    exact = cv2.INTER_NEAREST_EXACT if rule == cv2.INTER_NEAREST else rule  # half-pixel centres
    height, width = warp.canvas
    image = cv2.resize(image, (width, height), interpolation=exact)
    image = cv2.flip(image, 1) if warp.flipped else image
    top, left = (max(c, 0) for c in corner)
    part = image[top : max(corner[0] + size, 0), left : max(corner[1] + size, 0)]
    above, before = (max(-c, 0) for c in corner)
    below, after = (size - n - side for n, side in zip((above, before), part.shape))
    return cv2.copyMakeBorder(part, above, below, before, after, cv2.BORDER_CONSTANT, value=padding)


def _choose_corner(
    label: np.ndarray, warp: Warp, size: int, augment: AugmentSettings, random: np.random.Generator, target: int
) -> tuple[int, int]:
    """Draw the crop's top left on the canvas (negative where the canvas is smaller and lies within padding).

    Padding ``at: end`` lies below and, since it is there before the flip, on the side the image's right went to.
    """

    def before(missing: int, at_start: bool) -> int:
        return missing // 2 if augment.pad_at == "around" else missing * at_start

    def draw() -> tuple[int, int]:
        starts = zip(warp.canvas, (False, warp.flipped))
        return tuple(_draw_offset(n, size, before(max(size - n, 0), flip), random) for n, flip in starts)

    corner = draw()
    height, width = warp.canvas
    if not augment.keep_target or max(height, width) <= size:  # all that there is lies within the crop
        return corner
    mask = cv2.compare(label, target, cv2.CMP_EQ)
    on_canvas = cv2.warpAffine(mask, warp.to_canvas, (width, height), flags=cv2.INTER_NEAREST, borderValue=0)
    total = cv2.countNonZero(on_canvas)
    for _ in range(augment.keep_tries):
        top, left = (max(c, 0) for c in corner)
        if cv2.countNonZero(on_canvas[top : corner[0] + size, left : corner[1] + size]) >= augment.keep_target * total:
            break
        corner = draw()
    return corner


def _draw_offset(length: int, size: int, padding_before: int, random: np.random.Generator) -> int:
    if length <= size:
        return -padding_before
    return int(random.integers(0, length - size + 1))


def fitted_sides(shape: tuple[int, int], size: int) -> tuple[int, int]:
    """Return the height and width that an image of ``shape`` has on the evaluation canvas."""
    height, width = (max(int(side * size / max(shape)) // BLOCK * BLOCK, BLOCK) for side in shape)
    return height, width


def fit_canvas(image: np.ndarray, label: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
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
