"""The predictions that pictures of a test will show, kept while they are scored: first, worst, best, random."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from torch import Tensor

from util.data.sampling import random_stream
from util.run.processes import World

KINDS = WORST, BEST, RANDOM = ("worst", "best", "random")
FIRST = "first"  # which every test shows
STREAM = 3  # of random numbers, beside those of util/data/sampling.py
Episode = tuple[int, int]  # seed, number


@dataclass(frozen=True)
class Kept:
    """One episode's predictions at the size of its scored label, and its maps at their own size.

    Attributes:
        iou: of the final output, in percent.
        predictions: output -> the bytes of a PNG file of (H', W') uint8: 0 and 1, or base-class ids.
        maps: name -> (h, w) float16.
    """

    iou: float
    predictions: dict[str, np.ndarray]
    maps: dict[str, np.ndarray]


class KeptPredictions:
    """Keeps the predictions of the episodes that a choice may fall on, in bounded memory.

    Args:
        wanted: kind (first, worst, best, random) -> number of episodes.
        episodes: seed -> number of scored episodes.
    """

    def __init__(self, wanted: dict[str, int], episodes: dict[int, int]):
        self.wanted = wanted
        every = [(seed, number) for seed, length in episodes.items() for number in range(length)]
        self.first = every[: wanted.get(FIRST, 0)]
        drawn = random_stream(0, STREAM).permutation(len(every))[: wanted.get(RANDOM, 0)]  # always the same ones
        self._random = [every[i] for i in drawn.tolist()]
        self._kept: dict[Episode, Kept] = {}

    def add(self, seed: int, number: int, iou: float, predictions: dict[str, Tensor], maps: dict[str, Tensor]) -> None:
        """Keep an episode if it is among the worst, the best or the random ones so far.

        Predictions are classes per pixel (1, H', W'), maps (h, w) are in 0..1.
        """
        ious = {episode: kept.iou for episode, kept in self._kept.items()} | {(seed, number): iou}
        wanted = {*self.chosen(ious), *self.first}
        if (seed, number) in wanted:
            masks = {name: cv2.imencode(".png", p[0].byte().cpu().numpy())[1] for name, p in predictions.items()}
            small = {name: m.half().cpu().numpy() for name, m in maps.items()}
            self._kept[seed, number] = Kept(iou, masks, small)
        for episode in self._kept.keys() - wanted:
            del self._kept[episode]

    def chosen(self, ious: dict[Episode, float]) -> dict[Episode, list[str]]:
        """Return the episodes that are chosen by their IoU or by chance -> their kinds."""
        ranked = sorted(ious, key=lambda episode: (ious[episode], episode))
        out: dict[Episode, list[str]] = {}
        for kind, episodes in ((WORST, ranked), (BEST, ranked[::-1]), (RANDOM, self._random)):
            for episode in episodes[: self.wanted.get(kind, 0)]:
                out.setdefault(episode, []).append(kind)
        return out

    def gathered(self, world: World) -> dict[Episode, Kept]:
        """Return the kept episodes of all processes, (seed, number) -> predictions."""
        return {episode: kept for part in world.gather(self._kept) for episode, kept in part.items()}
