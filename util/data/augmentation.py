"""Augmentation: one composed warp per training image.

The published augmentation is the chain scale, rotation, blur, flip, crop. Here scale, rotation, flip and crop are one
affine map (a resize for images that are not rotated), which is sampled once and only inside the crop; the blur follows.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from torch import Tensor

from model.episode import IGNORE, Modality
from util.config.settings import AugmentSettings
from util.data.views import channels_first
from util.files.mask_images import CLASS_CHANNEL

PADDING = {"mean": (124, 116, 104), "black": (0, 0, 0)}  # colours of padding; the mean is ImageNet's
BLUR_KERNEL = (5, 5)
ROTATION = 10.0  # degrees at most, either way
CHANCE = 0.5  # of each of ``augment.changes``
KEEP_TRIES = 32  # draws of a crop that holds enough of its target

Window = tuple[slice, slice]  # rows, columns
Colour = tuple[float, ...]  # of each channel


@dataclass(frozen=True)
class Warp:
    """A sampled augmentation: a map from the original to the warped image, which is later cropped."""

    matrix: np.ndarray  # (2, 3): pixel of the original -> pixel of the warped image
    size: tuple[int, int]  # (height, width) of the warped image
    blur: bool
    flipped: bool
    rotated: bool

    def render(self, image: np.ndarray, how: int, outside: Colour, window: Window | None = None) -> np.ndarray:
        """Return a window, default all, of the warped image of an image (H, W) or (H, W, 4).

        ``how`` is an interpolation of OpenCV; ``outside`` is the value of pixels that a rotation brings into view. An
        image that is not rotated is resized, which is faster than an affine map.
        """
        height, width = self.size
        rows, columns = window or (slice(0, height), slice(0, width))
        if self.rotated:
            matrix = self.matrix - np.array([[0, 0, columns.start], [0, 0, rows.start]])
            size = (columns.stop - columns.start, rows.stop - rows.start)
            return cv2.warpAffine(image, matrix, size, flags=how, borderValue=outside)
        exact = cv2.INTER_NEAREST_EXACT if how == cv2.INTER_NEAREST else how  # half-pixel centres
        resized = cv2.resize(image, (width, height), interpolation=exact)
        if self.flipped:
            resized = cv2.flip(resized, 1)
        return resized[rows, columns]


def draw_warp(height: int, width: int, augment: AugmentSettings, random: np.random.Generator) -> Warp:
    """Sample scale, rotation, flip and blur for an image; always takes the same count of numbers from ``random``."""
    smallest, largest = augment.scale
    scale = random.uniform(smallest, largest)
    angle = random.uniform(-ROTATION, ROTATION)
    chances = [CHANCE * (name in augment.changes) for name in ("rotate", "blur", "flip")]
    rotates, blurs, flips = (random.random(3) < chances).tolist()
    new_height = max(round(height * scale), 1)
    new_width = max(round(width * scale), 1)
    # Half-pixel centres: (x + 0.5) * scale - 0.5.
    sx = new_width / width
    sy = new_height / height
    matrix = np.array([[sx, 0, 0.5 * sx - 0.5], [0, sy, 0.5 * sy - 0.5], [0, 0, 1]])
    if rotates:
        turn = cv2.getRotationMatrix2D((new_width / 2, new_height / 2), angle, 1)
        matrix = np.vstack([turn, [0, 0, 1]]) @ matrix
    if flips:
        matrix = np.array([[-1, 0, new_width - 1], [0, 1, 0], [0, 0, 1]]) @ matrix
    return Warp(matrix[:2], size=(new_height, new_width), blur=blurs, flipped=flips, rotated=rotates)


@dataclass(frozen=True)
class Cut:
    """A random view of a photo: a square crop of the warped image or, without a corner, all of it, aspect not kept."""

    warp: Warp
    size: int  # side of the view
    corner: tuple[int, int] | None = None  # the crop's top left in the warped image; it may lie outside

    def of(self, image: np.ndarray, how: int, outside: Colour, blurs: bool = False) -> np.ndarray:
        """Return the view (size, size, ...) of an array on the original image's pixels; see ``Warp.render``."""
        if self.corner is None:
            part = self.warp.render(image, how, outside)
        else:
            window = _window(self.warp, self.corner, self.size)
            part = _padded(self.warp.render(image, how, outside, window), self.corner, self.size, outside)
        if blurs:
            part = cv2.GaussianBlur(part, BLUR_KERNEL, 0)
        return cv2.resize(part, (self.size, self.size), interpolation=how)  # which leaves a crop as it is

    def beside(self, plane: np.ndarray, modality: Modality) -> np.ndarray:
        """Return the view of a plane (H, W) of a modality; it is not blurred."""
        return self.of(plane, cv2.INTER_NEAREST if modality.nearest else cv2.INTER_LINEAR, (modality.padding,))


def warp_training(
    stacked: np.ndarray, size: int, augment: AugmentSettings, random: np.random.Generator, target: int = 1
) -> tuple[Tensor, np.ndarray, Cut]:
    """Return a random view of a stacked image (H, W, 4): image (3, S, S), class indices (S, S), and how it was cut.

    The view is a crop of the warped image or, with ``augment.fit: stretch``, the whole warped image, aspect not kept.
    Pixels outside the image get the padding's colour and class 255. With ``augment.keep_target`` the crop is drawn,
    at most KEEP_TRIES times, until it holds that share of the pixels of class ``target``.
    """
    warp = draw_warp(stacked.shape[0], stacked.shape[1], augment, random)
    given = cv2.extractChannel(stacked, CLASS_CHANNEL)
    if augment.fit == "crop" and augment.keep_target and max(warp.size) > size:  # else a crop holds all of the image
        whole = warp.render(given, cv2.INTER_NEAREST, (IGNORE,))
        target_mask = (whole == target).view(np.uint8)
        corner = _draw_corner_with_target(warp, target_mask, size, augment, random)
        cut = Cut(warp, size, corner)
        classes = _padded(whole[_window(warp, corner, size)], corner, size, (IGNORE,))
    else:
        cut = Cut(warp, size, None if augment.fit == "stretch" else _draw_corner(warp, size, augment, random))
        classes = cut.of(given, cv2.INTER_NEAREST, (IGNORE,))
    image = cut.of(stacked, cv2.INTER_LINEAR, (*PADDING[augment.pad], IGNORE), blurs=warp.blur)
    return channels_first(image)[:CLASS_CHANNEL], classes, cut


def _window(warp: Warp, corner: tuple[int, int], size: int) -> Window:
    """Return the rows and columns of the warped image that lie inside a crop."""
    rows, columns = (slice(max(c, 0), min(c + size, n)) for c, n in zip(corner, warp.size))
    return rows, columns


def _padded(part: np.ndarray, corner: tuple[int, int], size: int, padding: Colour) -> np.ndarray:
    """Return the crop: its part of the warped image, with padding where the crop exceeds it."""
    above, left = (max(-start, 0) for start in corner)
    below = size - above - part.shape[0]
    right = size - left - part.shape[1]
    return cv2.copyMakeBorder(part, above, below, left, right, cv2.BORDER_CONSTANT, value=padding)


def _draw_corner_with_target(
    warp: Warp, target_mask: np.ndarray, size: int, augment: AugmentSettings, random: np.random.Generator
) -> tuple[int, int]:
    """Draw the crop's top left, anew while it holds too little of a mask {0, 1} and tries are left."""
    enough = augment.keep_target * cv2.countNonZero(target_mask)
    for _ in range(KEEP_TRIES):
        corner = _draw_corner(warp, size, augment, random)
        kept = cv2.countNonZero(target_mask[_window(warp, corner, size)])
        if kept >= enough:
            break
    return corner


def _draw_corner(warp: Warp, size: int, augment: AugmentSettings, random: np.random.Generator) -> tuple[int, int]:
    """Draw the crop's top left in the warped image; negative if the warped image is smaller and gets padding.

    With ``pad: black`` the padding lies below and at the right of the image before the flip, so at the left of a
    flipped one.
    """
    corner = []
    for length, is_flipped in zip(warp.size, (False, warp.flipped)):
        missing = size - length
        if missing < 0:
            corner.append(int(random.integers(0, length - size + 1)))
        elif augment.pad == "mean":
            corner.append(-(missing // 2))
        else:
            corner.append(-missing if is_flipped else 0)
    return corner[0], corner[1]
