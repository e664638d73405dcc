"""Further metrics of a class's mask, by their names in ``test.metrics`` and in results: ``METRICS``.

Most follow two forms. A ratio of pixels is summed over all episodes of a class before the division, as the IoU is. A
mean of episodes has a value for each episode, and counts 1 for it. Both then are averaged over the classes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import cv2
import numpy as np

from model.tables import add_once

Counts = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[float, float]]
CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))  # a pixel and its four neighbours


@dataclass(frozen=True)
class Metric:
    """A metric of one class: its score is ``scale`` * sum of parts / sum of wholes, averaged over the classes.

    ``part_and_whole`` takes prediction, truth and labelled pixels, masks (H, W) uint8 in {0, 1} that are 0 where
    nothing is labelled. A mean of episodes returns its value and 1.
    """

    title: str  # of its columns, with the unit
    part_and_whole: Counts
    scale: float = 100.0  # 100: percent
    smaller_is_better: bool = False


def boundary_counts(mask: np.ndarray, true: np.ndarray, labelled: np.ndarray) -> tuple[int, int]:
    """Return intersection and union of the boundary regions of two masks, in pixels.

    Source: Cheng et al., Boundary IoU, CVPR 2021. The boundary region of a mask is its pixels within d of its contour,
    to which the image's border belongs; d is 0.02 of the diagonal of the rectangle of all labelled pixels.
    """
    side = 2 * max(round(0.02 * _diagonal(labelled)), 1) + 1
    kernel = np.ones((side, side), np.uint8)
    band = mask > _eroded(mask, kernel)
    true_band = true > _eroded(true, kernel)
    return int((band & true_band).sum()), int((band | true_band).sum())


def hausdorff_95(mask: np.ndarray, true: np.ndarray, labelled: np.ndarray) -> tuple[float, int]:
    """Return HD95 in pixels, and 1: the larger of both directions' 95th percentile of surface distances.

    Source: Huttenlocher et al., TPAMI 1993, with the 95th percentile in place of the maximum.
    """
    distances = surface_distances(mask, true, labelled)
    return max(float(np.percentile(values, 95)) for values in distances), 1


def average_surface_distance(mask: np.ndarray, true: np.ndarray, labelled: np.ndarray) -> tuple[float, int]:
    """Return the average symmetric surface distance (ASSD) in pixels, and 1: the mean over both surfaces' pixels.

    Source: Heimann et al., TMI 2009.
    """
    return float(np.concatenate(surface_distances(mask, true, labelled)).mean()), 1


def surface_distances(mask: np.ndarray, true: np.ndarray, labelled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances in pixels from every surface pixel of each mask to the nearest one of the other.

    The surface of a mask is its pixels of which a direct neighbour is outside. If one mask is empty, the distance is
    the diagonal of the labelled pixels; if both are, it is 0.
    """
    if not mask.any() or not true.any():
        worst = _diagonal(labelled) if mask.any() or true.any() else 0.0
        return np.array([worst]), np.array([worst])
    surface = mask > _eroded(mask, CROSS)
    true_surface = true > _eroded(true, CROSS)
    return _distance_to(true_surface)[surface], _distance_to(surface)[true_surface]


def centreline_dice(mask: np.ndarray, true: np.ndarray, labelled: np.ndarray) -> tuple[float, int]:
    """Return clDice in 0..1, and 1: the Dice of the masks' skeletons within the other mask; two empty masks have 1.

    Source: Shit et al., clDice, CVPR 2021. A skeleton by thinning depends on the side at which thinning begins; this is
    the mean over all turns and mirrorings of the picture, so that each of them has the same value.
    """
    if not mask.any() and not true.any():
        return 1.0, 1
    values = [_centreline_dice(*pair) for pair in zip(_orientations(mask), _orientations(true), strict=True)]
    return math.fsum(values) / len(values), 1


def _orientations(picture: np.ndarray) -> list[np.ndarray]:
    """Return a picture (H, W) turned by quarters, and mirrored and turned."""
    sides = (picture, picture.T)
    return [np.ascontiguousarray(np.rot90(side, quarters)) for side in sides for quarters in range(4)]


def _centreline_dice(mask: np.ndarray, true: np.ndarray) -> float:
    precision = _share_within(_skeleton(mask), true)
    sensitivity = _share_within(_skeleton(true), mask)
    if precision + sensitivity == 0:
        return 0.0
    return 2 * precision * sensitivity / (precision + sensitivity)


METRICS = {
    "boundary_iou": Metric("boundary IoU %", boundary_counts),
    "hd95": Metric("HD95 px", hausdorff_95, scale=1, smaller_is_better=True),
    "assd": Metric("ASSD px", average_surface_distance, scale=1, smaller_is_better=True),
    "cldice": Metric("clDice %", centreline_dice),
}


def register_metric(name: str, title: str, **others: Any) -> Callable[[Counts], Counts]:
    """Return a decorator of a ``part_and_whole`` that makes it available in ``test.metrics``; others as of ``Metric``.

    ValueError: another module has registered the name.
    """

    def add(part_and_whole: Counts) -> Counts:
        add_once(METRICS, name, Metric(title, part_and_whole, **others), "test.metrics", attrgetter("part_and_whole"))
        return part_and_whole

    return add


def _diagonal(labelled: np.ndarray) -> float:
    *_, width, height = cv2.boundingRect(labelled)
    return math.hypot(width, height)


def _eroded(mask: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return cv2.erode(mask, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)


def _distance_to(surface: np.ndarray) -> np.ndarray:
    """Return the distance of every pixel to the nearest pixel of a surface (H, W) bool, float32."""
    return cv2.distanceTransform((~surface).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def _skeleton(mask: np.ndarray) -> np.ndarray:
    from skimage.morphology import skeletonize

    return skeletonize(mask > 0)


def _share_within(skeleton: np.ndarray, mask: np.ndarray) -> float:
    return float((skeleton & (mask > 0)).sum() / max(skeleton.sum(), 1))
