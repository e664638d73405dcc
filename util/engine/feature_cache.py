"""Features of images, kept over the episodes of a test so that no image is encoded twice."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from model.episode import CachedFeatures, Episode
from util.data.sampling import EpisodeKey
from util.data.trials import Trial
from util.engine.configure_process import keep_freed_memory
from util.engine.device import CUDA
from util.engine.memory import free_bytes
from util.engine.recycled_memory import RecycledMemory

GIB, MIB = 2**30, 2**20
AUTO_SHARE = 0.5  # of the memory that is free when the test begins
AUTO_LEAST = 4.0  # GiB, for each process


class Cacheable(Protocol):
    """A network whose features can be cached: a model, or one in test-time augmentation."""

    @property
    def masks_supports(self) -> bool:
        """Whether the features of a support depend on its label."""

    def cache_support(self, support: Tensor, support_label: Tensor) -> CachedFeatures | None:
        """Return the features of supports (1, K, 3, H, W) with labels (1, K, H, W), None if there are none."""

    def cache_query(self, query: Tensor) -> CachedFeatures | None:
        """Return the features of a query (1, 3, H, W), None if there are none."""


def feature_cache(gib: float | Literal["auto"], device: torch.device, processes: int) -> FeatureCache | None:
    """Return the cache that ``test.cache_gib`` asks for, None for 0.

    ``auto`` is a share of a CPU's free memory. It keeps none where that is little, because the images of an episode are
    then held together; and none on a GPU, where images without a cache are encoded together.

    Args:
        processes: of this machine, which share its memory.
    """
    if isinstance(gib, str):
        share = 0.0 if device.type == CUDA else AUTO_SHARE * free_bytes() / processes / GIB
        gib = share if share >= AUTO_LEAST else 0.0
    if not gib:
        return None
    if device.type != CUDA:
        keep_freed_memory()
    return FeatureCache(gib)


class FeatureCache:
    """Cached features of images by their row of the index, and by class too if the model masks its supports.

    Every image goes through the encoder alone, so that the content of the cache affects no number. A full cache drops
    the image that is needed again last, of the episodes that ``expect`` names (Belady's rule).

    Args:
        gib: its maximal size in GiB.
    """

    def __init__(self, gib: float):
        self.limit = gib * GIB
        self.network: Cacheable | None = None
        self.scope: tuple[Any, ...] = ()
        self.clear()

    def clear(self) -> None:
        """Drop every entry."""
        self.kept: dict[Hashable, CachedFeatures] = {}
        self._bytes: dict[Hashable, int] = {}  # of each entry
        self._touched: set[Hashable] = set()  # entries of the last episodes, to which the model may have added maps
        self._needed: dict[Hashable, list[int]] = {}  # the steps that need an image, the next one last
        self._step = -1
        self._memory = RecycledMemory()
        self.used = self.hits = self.misses = 0

    def use_for(self, network: Cacheable, *scope: Any) -> None:
        """Name the network of the next episodes; another network or ``scope`` (view, data, precision) empties it."""
        if self.network is not network or self.scope != scope:
            self.network, self.scope = network, scope
            self.clear()
        self.hits = self.misses = 0

    def expect(self, sampler: Callable[[int], EpisodeKey], steps: Sequence[Sequence[int]]) -> None:
        """Name the episodes to come, the numbers of one ``fill`` after the other; ``use_for`` comes first."""
        self._needed, self._step = defaultdict(list), -1
        for step in reversed(range(len(steps))):
            for key in (key for number in steps[step] for key in self._keys(sampler(number))):
                self._needed[key].append(step)

    def _keys(self, episode: EpisodeKey) -> Iterator[Hashable]:
        """Yield the keys of an episode's images: of the query, then of the supports of way after way."""
        yield self._key(episode.query)
        classes = episode.classes
        for way in episode.ways:
            yield from (self._key(row, way.class_id, classes) for row in way.supports)

    def _key(self, row: int, class_id: int | None = None, classes: Sequence[int] = ()) -> Hashable:
        """Return the key of a query, or of a support of one of an episode's classes."""
        assert self.network is not None
        masked = class_id is not None and self.network.masks_supports
        return row, (class_id, tuple(classes)) if masked else None  # labels of one way ignore the others

    def fill(self, trial: Trial) -> list[Episode]:
        """Return the episodes of a trial, way by way, with the cached features of their images; missing ones are made.

        ``use_for`` comes first, and ``settle`` once the network has seen them.
        """
        network, ways = self.network, trial.ways
        assert network is not None
        self._step += 1
        queries: list[CachedFeatures | None] = []
        supports: list[list[CachedFeatures | None]] = [[] for _ in ways]
        for item, (row, *others) in enumerate(trial.rows):
            queries.append(self._features(self._key(row), partial(network.cache_query, ways[0].query[item : item + 1])))
            classes = [int(way.class_id[item]) for way in ways]
            rows = iter(others)
            for of_way, way, class_id in zip(supports, ways, classes, strict=True):
                for image, label in way.shots(item):
                    compute = partial(network.cache_support, image[None, None], label[None, None])
                    of_way.append(self._features(self._key(next(rows), class_id, classes), compute))
        if any(features is None for features in (*queries, *chain(*supports))):  # this model caches nothing
            return ways
        kept_queries, kept_supports = _kept(queries), map(_kept, supports)
        return [replace(w, cached_support=s, cached_query=kept_queries) for w, s in zip(ways, kept_supports)]

    def _features(self, key: Hashable, compute: Callable[[], CachedFeatures | None]) -> CachedFeatures | None:
        found = self.kept.pop(key, None)
        if found is not None:
            self.hits += 1
        else:
            self.misses += 1
            computed = compute()
            found = None if computed is None else computed.each(self._memory.keep)
        steps = self._needed.get(key, [])
        while steps and steps[-1] <= self._step:
            steps.pop()
        if found is not None:
            self.kept[key] = found  # the last one is the one used last
            self._weigh(key)
            self._touched.add(key)
            self._drop_unneeded()
        return found

    def settle(self) -> None:
        """Count what the model has added to the images of the last episodes, and drop what is too much."""
        for key in self._touched & self.kept.keys():
            self._weigh(key)
        self._touched.clear()
        self._drop_unneeded()

    def _weigh(self, key: Hashable) -> None:
        size = self.kept[key].nbytes
        self.used += size - self._bytes.get(key, 0)
        self._bytes[key] = size

    def _drop_unneeded(self) -> None:
        """Drop what is needed again last until the rest fits; of images not needed again, the one used longest ago."""

        def next_step(key: Hashable) -> float:
            steps = self._needed.get(key)
            return steps[-1] if steps else math.inf

        while self.used > self.limit:
            dropped = max(self.kept, key=next_step)
            del self.kept[dropped]
            self.used -= self._bytes.pop(dropped)

    def report(self) -> str:
        """Return hits and misses since ``use_for``, and the size, in words."""
        size = f"{len(self.kept)} kept, {self.used / MIB:.0f} of {self.limit / MIB:.0f} MiB"
        return f"{self.hits} images from the feature cache, {self.misses} encoded; {size}"


def _kept(features: Sequence[CachedFeatures | None]) -> list[CachedFeatures]:
    return [x for x in features if x is not None]
