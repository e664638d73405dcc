"""Episode sampling: a pure function of (list, query rule, seed, number).

Workers, batches, processes and resuming only choose which numbers to ask for, so they cannot change an episode.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from util.data.lists import ImageList

# Streams of random numbers, so that no two uses of one seed meet.
ORDER, EPISODE, AUGMENT = 0, 1, 2


def random_stream(seed: int, stream: int, *key: int) -> np.random.Generator:
    """Return the random generator that belongs to a seed, one of the streams above, and a key such as a number."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, stream, *key])))


@lru_cache(maxsize=4)
def shuffled(length: int, seed: int, epoch: int) -> np.ndarray:
    """Return a permutation of 0..length - 1 that belongs to a seed and an epoch."""
    return random_stream(seed, ORDER, epoch).permutation(length)


@dataclass(frozen=True)
class EpisodeKey:
    """Which images make an episode: rows of the index, and the class (1-based)."""

    number: int
    query: int
    class_id: int
    supports: tuple[int, ...]


@dataclass(frozen=True)
class EpisodeSampler:
    """Draws episode ``number`` of a list.

    Attributes:
        query: ``walk`` takes the list in order, again from the start when it ends; ``shuffle`` takes it in a new
            random order every time it is walked (training).
        shots: K.
        seed: every episode's class and supports depend on it and on the number alone.
    """

    images: ImageList
    query: str
    shots: int
    seed: int

    def __call__(self, number: int) -> EpisodeKey:
        """Return the episode: a class with at least one pixel in the query, K other images in which it is present."""
        length = len(self.images.queries)
        lap, position = divmod(number, length)
        if self.query == "shuffle":
            position = int(shuffled(length, self.seed, lap)[position])
        query = int(self.images.queries[position])
        random = random_stream(self.seed, EPISODE, number)
        class_id = int(random.choice(self.images.classes_in(query)))
        candidates = self.images.candidates[class_id]
        others = candidates[candidates != query]
        supports = random.choice(others, size=self.shots, replace=False)
        return EpisodeKey(number, query, class_id, tuple(int(s) for s in supports))

    def digest(self, episodes: int) -> str:
        """Return the hexadecimal digest of the first episodes, by image names."""
        names, out = self.images.index.names, hashlib.sha256()
        for number in range(episodes):
            key = self(number)
            row = [names[key.query], str(key.class_id), *(names[s] for s in key.supports)]
            out.update((" ".join(row) + "\n").encode())
        return out.hexdigest()
