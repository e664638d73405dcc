"""Features of images, kept over the episodes of a test so that no image is encoded twice."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from itertools import chain, groupby
from typing import Any, Literal

import torch
from torch import Tensor

from model.episode import CachedFeatures, Episode
from util.data.episodes import Trial
from util.data.sampling import EpisodeKey
from util.evaluate.memory import free_bytes
from util.parallel import KEEP_ALL, set_allocator
from util.runtime.device import CUDA

GIB, MIB = 2**30, 2**20
RECENT = 32  # images that the order of episodes counts as still there


def feature_cache(gib: float | Literal["auto"], device: torch.device, processes: int) -> FeatureCache | None:
    """Return the cache that ``test.cache_gib`` asks for, None for 0; ``processes`` of this machine share its memory.

    ``auto`` is half of a CPU's free memory. It keeps none below 4 GiB for each process, because the images of an
    episode are then held together; and none on a GPU, where images without a cache are encoded together.
    """
    if isinstance(gib, str):
        share = 0.0 if device.type == CUDA else free_bytes() / 2 / processes / GIB
        gib = share if share >= 4 else 0.0
    if not gib:
        return None
    if device.type != CUDA:
        set_allocator(KEEP_ALL)
    return FeatureCache(gib)


class FeatureCache:
    """Cached features of images by their row of the index, and by class too if the model masks its supports.

    Every image goes through the encoder alone, so that the content of the cache affects no number. A full cache drops
    the image that is needed again last, of the episodes that ``expect`` names (Belady's rule). Dropping the one used
    longest ago takes a fifth to a half more encodings where 16 to 64 images of PASCAL's fold 0 fit. ``gib`` is its
    maximal size in GiB; the images of the current episodes come on top.
    """

    def __init__(self, gib: float):
        self.limit = gib * GIB
        self.network: Any = None  # a model, or one in test-time augmentation
        self.scope: tuple[Any, ...] | None = None

    def use_for(self, network: Any, *scope: Any) -> None:
        """Name the network of the next episodes; another network or ``scope`` (view, data, precision) empties it."""
        if self.network is not network or self.scope != scope:
            self.network, self.scope = network, scope
            self.kept: dict[Hashable, CachedFeatures] = {}  # the one used last at the end
            self._bytes: dict[Hashable, int] = {}  # of each entry
            self._current: set[Hashable] = set()  # entries of the current episodes
            self._needed: dict[Hashable, list[int]] = {}  # the steps that need an image, the next one last
            self.used = 0  # bytes
            self._step = -1
        self.hits = 0
        self.misses = 0

    def expect(self, sampler: Callable[[int], EpisodeKey], steps: Sequence[Sequence[int]]) -> None:
        """Name the episodes to come, the numbers of one ``fill`` after the other; ``use_for`` comes first."""
        self._needed = defaultdict(list)
        self._step = -1
        for step in reversed(range(len(steps))):
            for episode in map(sampler, steps[step]):
                self._needed[self._key(episode.query)].append(step)
                for way in episode.ways:
                    for row in way.supports:
                        self._needed[self._key(row, way.class_id, episode.classes)].append(step)

    def _key(self, row: int, class_id: int | None = None, classes: Sequence[int] = ()) -> Hashable:
        """Return the key of a query, or of a support of one of an episode's classes."""
        masked = class_id is not None and self.network.masks_supports
        return row, (class_id, tuple(classes)) if masked else None  # labels of one way ignore the others

    def fill(self, trial: Trial) -> list[Episode]:
        """Return the episodes of a trial, way by way, with the cached features of their images; missing ones are made.

        ``use_for`` comes first, and ``evict`` once the network has seen them.
        """
        ways = trial.ways
        queries: list[Any] = []
        supports: list[list[Any]] = [[] for _ in ways]
        self._step += 1
        for item, (query_row, *support_rows) in enumerate(trial.rows):
            query = ways[0].query[item : item + 1]
            queries.append(self._features(self._key(query_row), self.network.cache_query, query))
            classes = [int(way.class_id[item]) for way in ways]
            rows = iter(support_rows)
            for way, class_id, features_of_way in zip(ways, classes, supports, strict=True):
                for image, label in way.shots(item):
                    key = self._key(next(rows), class_id, classes)
                    features = self._features(key, self.network.cache_support, image[None, None], label[None, None])
                    features_of_way.append(features)
        if any(features is None for features in chain(queries, *supports)):  # this model caches nothing
            return ways
        return [
            replace(way, cached_support=features_of_way, cached_query=queries)
            for way, features_of_way in zip(ways, supports, strict=True)
        ]

    def _features(self, key: Hashable, compute: Callable[..., Any], *images: Tensor) -> CachedFeatures | None:
        """Return the features of an image, which are computed if they are not there; None if the model has none."""
        features = self.kept.pop(key, None)
        if features is None:
            self.misses += 1
            features = compute(*images)
        else:
            self.hits += 1
        if features is not None:
            self.kept[key] = features
            self._current.add(key)
        return features

    def evict(self) -> None:
        """Count the images of the last episodes, with what the model has added to them, and drop what is too much."""
        for key in self._current:
            size = self.kept[key].nbytes
            self.used += size - self._bytes.get(key, 0)
            self._bytes[key] = size
            while self._next_step(key) <= self._step:
                self._needed[key].pop()
        self._current.clear()
        while self.used > self.limit:
            dropped = max(self.kept, key=self._next_step)  # the first one of equals was used longest ago
            del self.kept[dropped]
            self.used -= self._bytes.pop(dropped)

    def _next_step(self, key: Hashable) -> float:
        """Return the step that needs an image next, infinity if none does."""
        steps = self._needed.get(key)
        return steps[-1] if steps else math.inf

    def __str__(self) -> str:
        size = f"{len(self.kept)} kept, {self.used / MIB:.0f} of {self.limit / MIB:.0f} MiB"
        return f"{self.hits} images from the feature cache, {self.misses} encoded; {size}"


def ordered_by_images(sampler: Callable[[int], EpisodeKey], episodes: int) -> list[int]:
    """Return the numbers below ``episodes`` in an order that needs few images at a time.

    Episodes of the same classes follow each other, and each one is among those that need the fewest images beside the
    ``RECENT`` last ones, the first of them by number. Caches of 8 to 100 images need few encodings in this order.
    """
    keys = sorted(map(sampler, range(episodes)), key=lambda key: (key.classes, key.number))
    order: list[int] = []
    for _, group in groupby(keys, lambda key: key.classes):
        order += _ordered_group({key.number: set(key.rows) for key in group})
    return order


def _ordered_group(images: dict[int, set[int]]) -> list[int]:
    """Return the numbers of episodes of the same classes, of which ``images`` has the rows, in their order."""
    users: dict[int, list[int]] = defaultdict(list)  # image -> its episodes
    for number, rows in images.items():
        for row in rows:
            users[row].append(number)
    new = {number: len(rows) for number, rows in images.items()}  # images of each episode that are not recent
    recent = dict[int, None]()  # the most recent at the end
    remaining = dict(images)
    order: list[int] = []
    while remaining:
        nearest = min(remaining, key=new.__getitem__)
        order.append(nearest)
        for row in sorted(remaining.pop(nearest)):
            if row not in recent:
                for number in users[row]:
                    new[number] -= 1
            recent.pop(row, None)
            recent[row] = None
        for row in list(recent)[:-RECENT]:
            del recent[row]
            for number in users[row]:
                new[number] += 1
    return order
