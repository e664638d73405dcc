"""Further metrics of a class's mask, by their names in ``test.metrics`` and in results: ``METRICS``.

Most follow two forms. A ratio of pixels is summed over all episodes of a class before the division, as the IoU is. A
mean of episodes has a value for each episode, and counts 1 for it. Both then are averaged over the classes.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypedDict

import cv2
import numpy as np

from model.registration import Registry
from util.files.errors import check_known


@dataclass(frozen=True)
class SeenEpisode:
    """The episode of a mask, for a metric that ``sees_episode``."""

    number: int
    query: str  # the name of its photo
    class_id: int
    # The query's map (H, W) uint8 of all classes of the data set, on the pixels of the mask: 0 background, 255 unknown;
    # where each mask of the data set shows one class, 1 is that
    class_map: np.ndarray = field(compare=False)


@dataclass(frozen=True)
class EpisodeCounts:
    """The counts of all episodes of an output and a seed, an entry for each class of each, for a metric ``at_end``."""

    number: np.ndarray  # of the episode
    class_id: np.ndarray
    intersection: np.ndarray  # in pixels
    union: np.ndarray


class ScoreFacts(TypedDict):
    """A score's title, unit and direction."""

    title: str
    unit: str
    scale: float  # of its ratio: 100 for percent
    smaller_is_better: bool


@dataclass(frozen=True)
class Metric:
    """A metric of one class: its score is ``scale`` * sum of parts / sum of wholes, averaged over classes with a whole.

    ``part_and_whole`` takes prediction, truth and labelled pixels, masks (H, W) uint8 in {0, 1} that are 0 where
    nothing is labelled. A mean of episodes returns its value and 1. One that ``sees_episode`` also takes it. One
    ``at_end`` takes the ``EpisodeCounts`` instead, and returns the score of all classes without its scale.
    """

    part_and_whole: Callable[..., Any]
    facts: ScoreFacts  # with the scale; results state them
    sees_episode: bool = False
    at_end: bool = False


# Keys of results and of their episodes, beside which a metric has its own
RESERVED = {"miou", "fb_iou", "per_class", "seed", "number", "query", "class", "others", "supports", "outputs"}


def metric(
    name: str,
    part_and_whole: Callable[..., Any],
    title: str,
    *,
    unit: str = "%",
    scale: float = 100.0,
    smaller_is_better: bool = False,
    **others: bool,
) -> Metric:
    """Return a metric as it is registered, by default in percent; ValueError: its name is a key of every result."""
    if name in RESERVED:
        raise ValueError(f"test.metrics '{name}' is a key of every result; rename it")
    facts = ScoreFacts(title=title, unit=unit, scale=scale, smaller_is_better=smaller_is_better)
    return Metric(part_and_whole, facts, **others)


METRICS = Registry("metric", "test.metrics", metric)


@METRICS.register("boundary_iou", "boundary IoU")
def boundary_counts(mask: np.ndarray, true: np.ndarray, labelled: np.ndarray) -> tuple[int, int]:
    """Return intersection and union of the boundary regions of two masks, in pixels.

    Source: Cheng et al., Boundary IoU, CVPR 2021. The boundary region of a mask is its pixels within d of its contour,
    to which the image's border belongs; d is 0.02 of the diagonal of the rectangle of all labelled pixels.
    """
    *_, width, height = cv2.boundingRect(labelled)
    side = 2 * max(round(0.02 * math.hypot(width, height)), 1) + 1
    kernel = np.ones((side, side), np.uint8)
    band = mask > _eroded(mask, kernel)
    true_band = true > _eroded(true, kernel)
    return int((band & true_band).sum()), int((band | true_band).sum())


def _eroded(mask: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return cv2.erode(mask, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)


def check_metrics(names: Iterable[str], source: object) -> None:
    """Refuse (UserError) a further metric of a config that is none."""
    for name in names:
        check_known(name, METRICS, f"{source}: test.metrics: '{name}': no such metric")


def counted_in_episodes(names: Iterable[str]) -> list[str]:
    """Return the names of metrics that are counted in each episode."""
    return [name for name in names if not METRICS[name].at_end]
