"""Where the values of a mask lie: interpolation leaves thin bands of further values between those of neighbours."""

import cv2
import numpy as np

from util.files.palette import IGNORE

REACH = 4  # pixels from a band to both of its neighbours, at most
SHARE = 0.9  # of a value's pixels that lie so
SMOOTH = 0.25  # of the steps between values, from which on a mask's edges are smooth
SMOOTH_OF_WIDE = 0.8  # where bands are wide
WIDE = 0.05  # of a value's pixels in places that are three pixels wide
VALUES = 256


def bands_in(values: np.ndarray, palette: np.ndarray) -> frozenset[int]:
    """Return the values that lie only in thin bands between lower and higher ones, in a mask whose edges are smooth.

    A step is smooth if it passes a band. Objects on one ground, however thin, are between nothing; of real borders that
    lie so, such as kerbs, other steps of the mask are sharp.

    Args:
        values: (H, W) uint8.
        palette: the colours of the values, (colours, 3) uint8, which may have been mixed in their place; or empty.
    """
    lowest, highest = _ends_nearby(values)
    pixels = _count(values)
    is_large = _count(values[lowest == highest]) > (1 - SHARE) * pixels
    is_thin = (pixels > 0) & ~is_large
    is_thin[IGNORE] = False
    if not is_thin.any():
        return frozenset()
    is_between = (lowest < values) & (values < highest)
    is_band = is_thin & (_count(values[is_between]) >= SHARE * pixels)
    if len(palette) and not is_band.any():
        is_band = is_thin & (_count(values[_is_mixed(values, palette)]) >= SHARE * pixels)
    else:
        is_band &= ~_is_steep(values) | ~_is_wide(values)
    if not is_band.any() or not _is_smooth(values, is_band):
        return frozenset()
    return frozenset(np.flatnonzero(is_band).tolist())


def _ends_nearby(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest level within ``REACH`` of each pixel, (H, W) or (H, W, channels)."""
    window = np.ones((2 * REACH + 1, 2 * REACH + 1), np.uint8)
    return cv2.erode(levels, window), cv2.dilate(levels, window)


def _is_mixed(values: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Return whether the colour of each pixel, (H, W), is between those nearby wherever these differ."""
    colours = np.zeros((VALUES, 3), np.uint8)
    colours[: len(palette)] = palette[:VALUES]
    levels = colours[values]
    lowest, highest = _ends_nearby(levels)
    is_within = (lowest < levels) & (levels < highest)
    return is_within.any(2) & (is_within | (lowest == highest)).all(2)


def _is_wide(values: np.ndarray) -> np.ndarray:
    """Return whether each value, (256,), has places that are three pixels wide."""
    window = np.ones((3, 3), np.uint8)
    is_inside = cv2.erode(values, window) == cv2.dilate(values, window)
    return _count(values[is_inside]) > WIDE * _count(values)


def _is_steep(values: np.ndarray) -> np.ndarray:
    """Return whether the neighbours of each value, (256,), are mostly other than the next numbers.

    Interpolation that makes wide bands leaves no number out: what is wide and steep is a road, say.
    """
    sides = np.zeros(VALUES, np.int64)
    steep_sides = np.zeros(VALUES, np.int64)
    for first, second in _neighbours(values):
        height = cv2.absdiff(first, second)
        for side in (first, second):
            sides += _count(side[height > 0])
            steep_sides += _count(side[height > 1])
    return 2 * steep_sides > sides


def _is_smooth(values: np.ndarray, is_band: np.ndarray) -> bool:
    """Return whether enough steps between values that are no bands pass one; those to the next number need not."""
    sides = 0  # of bands
    sharp = 0
    for first, second in _neighbours(values):
        of_band = is_band[first].astype(np.int8) + is_band[second]
        sides += int((of_band == 1).sum())
        sharp += int(((cv2.absdiff(first, second) > 1) & (of_band == 0)).sum())
    smooth = sides / 2  # into the band, and out of it
    least = SMOOTH_OF_WIDE if (is_band & _is_wide(values)).any() else SMOOTH
    return smooth >= least * (smooth + sharp)


def _neighbours(values: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Return the values of all pixels beside each other, and of all below each other."""
    return (values[:, :-1], values[:, 1:]), (values[:-1], values[1:])


def _count(values: np.ndarray) -> np.ndarray:
    """Return how many pixels have each value, (256,)."""
    return np.bincount(values.reshape(-1), minlength=VALUES)
