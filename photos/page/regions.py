"""The region of one photo that the network sees about a place, or in a box."""

import cv2
import numpy as np
from numpy.typing import ArrayLike

from photos.examples import BOXED, LoadedExample, box_between
from photos.segmenter import Segmenter
from util.files.palette import IGNORE

CLICK_RADIUS = 0.04  # of the disc about a click, as a share of the longer side
CLICK_SHARE = 0.5  # least probability in the region of a click, as a share of that at its place


def region_at(segmenter: Segmenter, image: np.ndarray, column: int, row: int) -> np.ndarray:
    """Return the region about a place as the network sees it, (H, W) bool, by the rule that was best on VOC's photos.

    Args:
        segmenter: of the network; its classes do not count.
        image: the upright photo, (H, W, 3) uint8.
        column, row: the pixel.
    """
    label = np.zeros(image.shape[:2], np.uint8)
    radius = max(round(CLICK_RADIUS * max(label.shape)), 1)
    label[radius:-radius, radius:-radius] = IGNORE
    cv2.circle(label, (column, row), radius, 1, cv2.FILLED)
    click_segmenter = segmenter.without_classes()
    click_segmenter.add(None, [(image, label)])
    probability = click_segmenter(image).probability[-1]
    inside = probability >= CLICK_SHARE * probability[row, column]
    _, parts = cv2.connectedComponents(inside.astype(np.uint8))
    return parts == parts[row, column]


def region_in_box(segmenter: Segmenter, image: np.ndarray, corners: ArrayLike) -> np.ndarray:
    """Return the object that the network finds in a box of two opposite corners (x, y), (H, W) bool.

    UserError: nothing of the box is left at the network's input size.
    """
    label = np.zeros(image.shape[:2], np.uint8)
    label[box_between(corners, label.shape)] = BOXED
    (support,) = segmenter.without_classes().boxes_to_masks(None, [LoadedExample(image, label, "the box")])
    return support.label == 1
