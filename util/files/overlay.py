"""Overlays on photos: masks in the colours of support, prediction and truth, class maps, heat maps; their files."""

from pathlib import Path

import cv2
import numpy as np

from util.files.palette import IGNORE
from util.files.writing import write_atomically

Colour = tuple[int, int, int]  # RGB
TINT = 0.5  # share of the mask's colour in an overlay, and of the colours in a heat map
SUPPORT_COLOUR = (40, 120, 240)
PREDICTION_COLOUR = (235, 60, 60)
TRUTH_COLOUR = (50, 180, 80)
IGNORED_COLOUR = (128, 128, 128)
JPEG_QUALITY = 80  # 2 MB for 12 million pixels
PANEL_HEIGHT = 220  # pixels of a photo among others
OUTLINE = (((0, 0, 0), 3), ((255, 255, 255), 1))  # a light line on a wider dark one shows on any ground: colour, pixels


def overlay(image: np.ndarray, label: np.ndarray, colour: Colour) -> np.ndarray:
    """Return an RGB image (H, W, 3) uint8 whose pixels of label 1 are tinted and outlined, ignored pixels greyed."""
    out = image.copy()
    for value, tint in ((1, colour), (IGNORE, IGNORED_COLOUR)):
        where = label == value
        out[where] = (TINT * np.array(tint) + (1 - TINT) * out[where]).astype(np.uint8)
    contours, _ = cv2.findContours((label == 1).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    for line_colour, width in OUTLINE:
        cv2.drawContours(out, contours, -1, line_colour, width)
    return out


def heat(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return an RGB image (H, W, 3) uint8 blended with a heat map (H, W) of values in 0..1, blue to red."""
    levels = (np.clip(values, 0, 1) * 255).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_JET), cv2.COLOR_BGR2RGB)
    return cv2.addWeighted(image, 1 - TINT, colours, TINT, 0)


def class_colour(value: int) -> Colour:
    """Return the colour of a class id in class maps."""
    hsv = np.array([[[67 * value % 180, 220, 235]]], np.uint8)  # of OpenCV's 180 hues, far from those of the next ids
    red, green, blue = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].tolist()
    return red, green, blue


def class_map(image: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return an RGB image with each class id except 0 tinted and outlined in a colour of its own."""
    out = image
    classes = np.unique(ids[(ids > 0) & (ids != IGNORE)])
    for value in classes.tolist():
        out = overlay(out, (ids == value).astype(np.uint8), class_colour(value))
    return out


def labelled(image: np.ndarray, label: np.ndarray, colour: Colour, several: bool = False) -> np.ndarray:
    """Return an image with its label: one class in the colour given, the classes of several ways in their own."""
    return class_map(image, label) if several else overlay(image, label, colour)


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write an RGB picture (H, W, 3) uint8 as PNG or JPEG, by the suffix; raises as ``write_atomically`` does."""
    quality = [] if path.suffix == ".png" else [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, content = cv2.imencode(path.suffix, bgr, quality)
    write_atomically(path, content.tobytes())


def at_panel_size(image: np.ndarray) -> np.ndarray:
    """Return an image (H, W, 3), or the nearest pixels of a label (H, W), uint8, at the height of a panel."""
    height, width = image.shape[:2]
    size = max(round(width * PANEL_HEIGHT / height), 1), PANEL_HEIGHT
    method = cv2.INTER_AREA if height > PANEL_HEIGHT else cv2.INTER_CUBIC
    return cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_NEAREST if image.ndim == 2 else method)
