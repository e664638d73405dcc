"""Features of images, kept over the episodes of a test so that no image is encoded twice."""

from __future__ import annotations

import math
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from model.episode import CachedFeatures, Episode
from util.data.sampling import EpisodeKey
from util.data.trials import Trial
from util.parallel import KEEP_ALL, set_allocator
from util.run.device import CUDA

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
        set_allocator(KEEP_ALL)
    return FeatureCache(gib)


def free_bytes() -> int:
    """Return the bytes of memory that this process may take on Linux, within its container; 0 on other systems."""
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    except OSError:
        return 0
    free, group = int(lines["MemAvailable"].split()[0]) * 2**10, Path("/sys/fs/cgroup")
    limit, use = (_number(group / name) for name in ("memory.max", "memory.current"))
    return free if limit is None or use is None else max(min(free, limit - use), 0)


def _number(path: Path) -> int | None:
    """Return the number in a file, None if it is not there or says ``max``."""
    text = path.read_text().strip() if path.exists() else ""
    return int(text) if text.isdigit() else None


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
            for episode in map(sampler, steps[step]):
                supports = [(row, way.class_id, episode.classes) for way in episode.ways for row in way.supports]
                for key in (self._key(episode.query), *(self._key(*support) for support in supports)):
                    self._needed[key].append(step)

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
            found = compute()
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
        while self.used > self.limit:
            dropped = max(self.kept, key=lambda key: self._needed[key][-1] if self._needed.get(key) else math.inf)
            del self.kept[dropped]
            self.used -= self._bytes.pop(dropped)

    def report(self) -> str:
        """Return hits and misses since ``use_for``, and the size, in words."""
        size = f"{len(self.kept)} kept, {self.used / MIB:.0f} of {self.limit / MIB:.0f} MiB"
        return f"{self.hits} images from the feature cache, {self.misses} encoded; {size}"


def _kept(features: Sequence[CachedFeatures | None]) -> list[CachedFeatures]:
    return [x for x in features if x is not None]


# --- order of episodes -----------------------------------------------------------------------------------------------


RECENT = 32  # images; caches of 8 to 100 images need few encodings with it


def ordered_by_images(sampler: Callable[[int], EpisodeKey], episodes: int) -> list[int]:
    """Return the numbers below ``episodes`` in an order that needs few images at a time.

    Episodes of the same classes follow each other, and each one is among those that need the fewest images beside the
    most recent ones, the first of them by number.
    """
    keys = sorted(map(sampler, range(episodes)), key=lambda key: (key.classes, key.number))
    return [number for _, group in groupby(keys, lambda key: key.classes) for number in _chained(list(group))]


def _chained(keys: Sequence[EpisodeKey]) -> list[int]:
    """Return the numbers of episodes of the same classes, each after those that share its images."""
    images = [set(key.rows) for key in keys]
    users: dict[int, list[int]] = defaultdict(list)  # image -> positions of its episodes
    for position, rows in enumerate(images):
        for row in rows:
            users[row].append(position)
    new = [len(rows) for rows in images]  # images of each episode that are not recent
    left, recent, order = dict.fromkeys(range(len(keys))), OrderedDict[int, None](), []
    while left:
        nearest = min(left, key=new.__getitem__)
        del left[nearest]
        order.append(keys[nearest].number)
        for row in sorted(images[nearest]):
            if row not in recent:
                _count(new, users[row], -1)
            recent[row] = None
            recent.move_to_end(row)
        while len(recent) > RECENT:
            _count(new, users[recent.popitem(last=False)[0]], 1)
    return order


def _count(new: list[int], positions: Sequence[int], change: int) -> None:
    for position in positions:
        new[position] += change
