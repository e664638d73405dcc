"""The predictions that pictures of a test will show, kept while they are scored: first, worst, best, random."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from util.data.sampling import random_stream
from util.run.processes import World

KINDS = WORST, BEST, RANDOM = ("worst", "best", "random")
FIRST = "first"  # which every test shows
STREAM = 3  # of random numbers, beside those of util/data/sampling.py
LEVEL = 1  # of compression: masks are flat
Episode = tuple[int, int]  # seed, number


class Packed:
    """A compressed array."""

    def __init__(self, array: np.ndarray):
        self.content = zlib.compress(np.ascontiguousarray(array).tobytes(), LEVEL)
        self.shape, self.dtype = array.shape, array.dtype

    def array(self) -> np.ndarray:
        """Return the array, read-only."""
        return np.frombuffer(zlib.decompress(self.content), self.dtype).reshape(self.shape)


@dataclass(frozen=True)
class Kept:
    """One episode's predictions at the size of its scored label, and its maps at their own size.

    Attributes:
        iou: of the final output, in percent.
        predictions: output -> (H', W') uint8: 0 and 1, or base-class ids.
        maps: name -> (h, w) float16.
    """

    iou: float
    predictions: dict[str, Packed]
    maps: dict[str, Packed]


class KeptPredictions:
    """Keeps the predictions of the episodes that a choice may fall on, in bounded memory.

    Args:
        wanted: kind (first, worst, best, random) -> number of episodes.
        episodes: seed -> number of scored episodes.
    """

    def __init__(self, wanted: dict[str, int], episodes: dict[int, int]):
        self.wanted = wanted
        self.first = every_episode(episodes)[: wanted.get(FIRST, 0)]
        self._fixed = {*self.first, *random_episodes(episodes, wanted.get(RANDOM, 0))}
        self._kept: dict[Episode, Kept] = {}

    def add(self, seed: int, number: int, iou: float, predictions: dict[str, Tensor], maps: dict[str, Tensor]) -> None:
        """Keep an episode if it is among the worst, the best or the random ones so far.

        Args:
            iou: of the final output, in percent.
            predictions: output -> (1, H', W') classes per pixel.
            maps: name -> (h, w) in 0..1.
        """
        ious = {episode: kept.iou for episode, kept in self._kept.items()} | {(seed, number): iou}
        ranked = sorted(ious, key=lambda episode: (ious[episode], episode))
        best = ranked[::-1][: self.wanted.get(BEST, 0)]
        wanted = {*ranked[: self.wanted.get(WORST, 0)], *best, *self._fixed}
        if (seed, number) in wanted:
            masks = {name: Packed(p[0].byte().cpu().numpy()) for name, p in predictions.items()}
            small = {name: Packed(m.half().cpu().numpy()) for name, m in maps.items()}
            self._kept[seed, number] = Kept(iou, masks, small)
        for episode in self._kept.keys() - wanted:
            del self._kept[episode]

    def gathered(self, world: World) -> dict[Episode, Kept]:
        """Return the kept episodes of all processes, (seed, number) -> predictions."""
        return {episode: kept for part in world.gather(self._kept) for episode, kept in part.items()}


def every_episode(episodes: dict[int, int]) -> list[Episode]:
    """Return all episodes, (seed, number)."""
    return [(seed, number) for seed, length in episodes.items() for number in range(length)]


def random_episodes(episodes: dict[int, int], count: int) -> list[Episode]:
    """Return ``count`` episodes, (seed, number), drawn without replacement; always the same ones."""
    every = every_episode(episodes)
    return [every[i] for i in random_stream(0, STREAM).permutation(len(every))[:count].tolist()]
