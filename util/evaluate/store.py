"""A store, so that no support, and where there is room no query, is encoded twice: of a test, and for photos."""

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from model.episode import Episode
from util.data.episodes import Trial
from util.evaluate.memory import free_bytes
from util.runtime.device import CUDA

GIB, MIB = 2**30, 2**20
OF_FREE = 0.5  # share of the free memory that is taken without a word, of a CPU
OF_FREE_GPU = 0.25  # and of a GPU, whose passes take the most of it


def shot_store(gib: float | Literal["auto"], device: torch.device, processes: int) -> "ShotStore | None":
    """Return the store that ``test.cache_gib`` asks for, None for 0; ``processes`` of this machine share its memory."""
    if isinstance(gib, str):
        if device.type == CUDA:
            gib = OF_FREE_GPU * torch.cuda.mem_get_info(device)[0] / GIB
        else:
            gib = OF_FREE * free_bytes() / processes / GIB
    return ShotStore(gib) if gib else None


class ShotStore:
    """The shots of supports, by keys that say photo and label, such as a row of the index and its classes.

    A test also keeps the maps of queries, by their rows. A full store drops queries, then shots, what was used longest
    ago first. ``gib`` is its maximal size in GiB; what is asked for at a time comes on top.
    """

    def __init__(self, gib: float):
        self.limit = gib * GIB
        self.network: Any = None
        self.scope: tuple[Any, ...] | None = None

    def use_for(self, network: Any, *scope: Any) -> None:
        """Name the network of the next episodes; another network or ``scope`` (view, data, precision) empties it."""
        if self.network is not network or self.scope != scope:
            self.network, self.scope = network, scope
            self.kept: dict[Hashable, Any] = {}  # the one used last at the end
            self.queries: dict[int, Any] = {}
            self.used = 0  # bytes
        self.hits = 0
        self.misses = 0

    def fill(self, trial: Trial) -> list[Episode]:
        """Return the episodes of a trial, way by way, with the shots of their supports; missing ones are made."""
        keys: list[Hashable] = []
        supports: list[tuple[Tensor, Tensor]] = []
        for way, keys_of_way in zip(trial.ways, _keys_of(trial), strict=True):
            keys += keys_of_way
            supports += [support for item in range(len(trial.rows)) for support in way.supports_of(item)]
        shots = self.shots(keys, supports)
        if not shots:
            return trial.ways
        each = len(shots) // len(trial.ways)
        # A GPU encodes all queries in one call.
        maps = self._maps_of_queries(trial) if trial.ways[0].query.is_cpu else None
        return [replace(way, shots=shots[i * each : (i + 1) * each], maps=maps) for i, way in enumerate(trial.ways)]

    def _maps_of_queries(self, trial: Trial) -> list[Any] | None:
        """Return the maps of the queries of a trial, None of a method that reads more than maps."""
        maps = []
        for query_1chw, (row, *_) in zip(trial.ways[0].query.split(1), trial.rows, strict=True):
            if row not in self.queries:
                encoded = self.network.encode(query_1chw)
                if not encoded:
                    return None
                [self.queries[row]] = encoded
                self.used += encoded[0].nbytes
            self.queries[row] = self.queries.pop(row)
            maps.append(self.queries[row])
        self._drop_oldest()
        return maps

    def shots(self, keys: Sequence[Hashable], supports: Sequence[tuple[Tensor, Tensor]]) -> list[Any]:
        """Return the shots of supports, image (3, H, W) and label (H, W), by their keys; missing ones are made.

        [] for a method that keeps nothing.
        """
        missing: dict[Hashable, tuple[Tensor, Tensor]] = {}
        for key, support in zip(keys, supports, strict=True):
            if key in self.kept or key in missing:
                self.hits += 1
            else:
                missing[key] = support
        self.misses += len(missing)
        for key, shot in zip(missing, self._encoded([*missing.values()]), strict=False):
            self.kept[key] = shot
            self.used += shot.nbytes
        if any(key not in self.kept for key in keys):
            return []
        for key in keys:
            self.kept[key] = self.kept.pop(key)
        shots = [self.kept[key] for key in keys]
        self._drop_oldest()
        return shots

    def _encoded(self, supports: Sequence[tuple[Tensor, Tensor]]) -> list[Any]:
        """Return the shots of supports, of all in one call where they have one size."""
        sizes = {image.shape for image, _ in supports}
        if len(sizes) != 1:
            return [shot for image, label in supports for shot in self.network.encode(image[None], label[None])]
        images, labels = zip(*supports, strict=True)
        return self.network.encode(torch.stack(images), torch.stack(labels))

    def _drop_oldest(self) -> None:
        """Drop queries, then shots, what was used longest ago first, until the rest fits."""
        for kept in (self.queries, self.kept):
            while kept and self.used > self.limit:
                self.used -= kept.pop(next(iter(kept))).nbytes

    def __str__(self) -> str:
        size = f"{len(self.kept)} kept, {self.used / MIB:.0f} of {self.limit / MIB:.0f} MiB"
        return f"{self.hits} supports from the store, {self.misses} encoded; {size}"


def _keys_of(trial: Trial) -> list[list[Hashable]]:
    """Return the key of each support of each way, item after item."""
    keys: list[list[Hashable]] = [[] for _ in trial.ways]
    for item, (_, *support_rows) in enumerate(trial.rows):
        classes = tuple(int(way.class_id[item]) for way in trial.ways)  # labels of one way ignore the others
        rows = iter(support_rows)
        for way, keys_of_way, class_id in zip(trial.ways, keys, classes, strict=True):
            keys_of_way += [(next(rows), class_id, classes) for _ in way.supports_of(item)]
    return keys
