"""The predictions that pictures of a test will show, kept while they are scored: worst, best and random ones."""

from __future__ import annotations

import bisect
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from util.data.sampling import random_stream
from util.run.processes import World

KINDS = WORST, BEST, RANDOM = ("worst", "best", "random")
STREAM = 3  # of random numbers, beside those of util/data/sampling.py
LEVEL = 1  # of compression: masks are flat
Episode = tuple[int, int]  # seed, number
Ranked = tuple[float, int, int]  # IoU in percent, seed, number


@dataclass(frozen=True)
class Packed:
    """A compressed array."""

    content: bytes
    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, array: np.ndarray) -> Packed:
        """Return an array, compressed."""
        return cls(zlib.compress(np.ascontiguousarray(array).tobytes(), LEVEL), array.shape, array.dtype.str)

    def array(self) -> np.ndarray:
        """Return the array, read-only."""
        return np.frombuffer(zlib.decompress(self.content), self.dtype).reshape(self.shape)


@dataclass(frozen=True)
class Kept:
    """One episode's predictions at the size of its scored label, and its maps at their own size.

    Attributes:
        predictions: output -> (H', W') uint8: 0 and 1, or base-class ids.
        maps: name -> (h, w) float16.
    """

    predictions: dict[str, Packed]
    maps: dict[str, Packed]


class KeptPredictions:
    """Keeps the predictions of the episodes that a choice may fall on, in bounded memory.

    Args:
        wanted: kind (worst, best, random) -> number of episodes.
        episodes: seed -> number of scored episodes.
    """

    def __init__(self, wanted: dict[str, int], episodes: dict[int, int]):
        self.wanted = wanted
        self._random = set(random_episodes(episodes, wanted.get(RANDOM, 0)))
        self._worst: list[Ranked] = []  # both ascending
        self._best: list[Ranked] = []
        self._kept: dict[Episode, Kept] = {}

    def add(self, seed: int, number: int, iou: float, predictions: dict[str, Tensor], maps: dict[str, Tensor]) -> None:
        """Keep an episode if it is among the worst, the best or the random ones so far.

        Args:
            iou: of the final output, in percent.
            predictions: output -> (1, H', W') classes per pixel.
            maps: name -> (h, w) in 0..1.
        """
        left = [ranked[1:] for ranked in self._ranked((iou, seed, number))]
        if self._is_wanted((seed, number)):
            self._kept[seed, number] = Kept(
                {name: Packed.of(p[0].byte().cpu().numpy()) for name, p in predictions.items()},
                {name: Packed.of(m.half().cpu().numpy()) for name, m in maps.items()},
            )
        for episode in left:
            if not self._is_wanted(episode):
                self._kept.pop(episode, None)

    def gathered(self, world: World) -> dict[Episode, Kept]:
        """Return the kept episodes of all processes, (seed, number) -> predictions."""
        return {episode: kept for part in world.gather(self._kept) for episode, kept in part.items()}

    def _ranked(self, ranked: Ranked) -> Iterator[Ranked]:
        """Rank an episode among the worst and the best; yield those that it replaces."""
        for ranking, kind, last in ((self._worst, WORST, -1), (self._best, BEST, 0)):
            bisect.insort(ranking, ranked)
            if len(ranking) > self.wanted.get(kind, 0):
                yield ranking.pop(last)

    def _is_wanted(self, episode: Episode) -> bool:
        ranked = (*self._worst, *self._best)
        return episode in self._random or any(entry[1:] == episode for entry in ranked)


def random_episodes(episodes: dict[int, int], count: int) -> list[Episode]:
    """Return ``count`` episodes, (seed, number), drawn without replacement; always the same ones."""
    every = [(seed, number) for seed, length in episodes.items() for number in range(length)]
    return [every[i] for i in random_stream(0, STREAM).permutation(len(every))[:count].tolist()]
