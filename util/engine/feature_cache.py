"""What a network computed of images, kept over the episodes of a test so that no image is encoded twice."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import partial
from typing import Any

from model.contract import CachedFeatures, Episode, FewShotModel
from util.data.datasets import Trial

GIB, MIB = 2**30, 2**20


class FeatureCache:
    """Memories of images by their row of the index, and by the class too where the model masks its supports.

    Every image goes through the encoder alone, so that no number depends on what was in the cache. What came first
    stays: a list is walked from its start again and again, and the image that was not seen for longest is the one that
    comes next.

    Args:
        gib: the most that it holds.
    """

    def __init__(self, gib: float):
        self.limit = gib * GIB
        self.scope: tuple[Any, ...] = ()
        self.forget()

    def forget(self) -> None:
        """Let everything go."""
        self.kept: dict[Hashable, CachedFeatures] = {}
        self.used = self.hits = self.misses = 0

    def turn_to(self, network: FewShotModel, *scope: Any) -> None:
        """Say whose images follow; another network or ``scope`` (view, data, precision) begins with nothing."""
        if self.scope != (network, *scope):
            self.scope = (network, *scope)
            self.forget()
        self.hits = self.misses = 0

    def fill(self, trial: Trial) -> Episode:
        """Return the episodes of a trial with what the network remembers of their images; encodes what is missing."""
        network, episode = self.scope[0], trial.episode
        classes = episode.class_id.tolist() if network.masks_supports else [None] * len(trial.rows)
        queries, supports = [], []
        for item, (row, *others) in enumerate(trial.rows):
            query = episode.query[item : item + 1]
            queries.append(self._memory((row, None), partial(network.cache_query, query)))
            for (image, label), other in zip(episode.shots(item), others, strict=True):
                one = partial(network.cache_support, image[None, None], label[None, None])
                supports.append(self._memory((other, classes[item]), one))
        if None in (*queries, *supports):  # this model keeps nothing
            return episode
        return replace(episode, cached_support=supports, cached_query=queries)

    def _memory(self, key: Hashable, compute: Callable[[], CachedFeatures | None]) -> CachedFeatures | None:
        found = self.kept.get(key)
        if found is not None:
            self.hits += 1
            return found
        self.misses += 1
        found = compute()
        if found is not None and self.used + found.nbytes <= self.limit:
            self.kept[key] = found
            self.used += found.nbytes
        return found

    def report(self) -> str:
        """Return hits, misses and size since ``turn_to``, in words."""
        size = f"{len(self.kept)} kept, {self.used / MIB:.0f} of {self.limit / MIB:.0f} MiB"
        return f"{self.hits} images from the feature cache, {self.misses} encoded; {size}"
