"""Training episodes over a frozen encoder whose maps are kept: each view of an image passes through it once."""

import math
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from model.contract import FewShotModel
from model.encoders.features import Features
from model.episode import CachedFeatures, Episode
from util.data.episodes import QUERY_SLOT, EpisodeDataset, ViewKey, collate
from util.data.images.views import numbered
from util.errors import UserError
from util.run.network import PreparedNetwork

GIB, MIB = 2**30, 2**20
Slot = tuple[ViewKey, bool]  # a view, and whether it was encoded as a support whose label has an influence


class RecordFile:
    """A bounded file of records of one size, by key; it has no name and vanishes with the process.

    Args:
        folder: where the file is; it takes as much of the disk as it holds.
        gib: its maximal size in GiB; 0 keeps nothing.
    """

    def __init__(self, folder: Path, gib: float):
        self.folder, self.limit = folder, gib * GIB
        self.slots: dict[Slot, int] = {}
        self.record_bytes, self.full = 0, gib == 0
        self._file: Any = None

    def get(self, key: Slot) -> np.ndarray | None:
        """Return a record, uint8, None if it is not kept."""
        if key not in self.slots:
            return None
        record = np.empty(self.record_bytes, np.uint8)
        self._file.seek(self.slots[key] * self.record_bytes)
        self._file.readinto(record)
        return record

    def put(self, key: Slot, record: np.ndarray) -> None:
        """Keep a record, unless the file or the disk is full."""
        self.record_bytes = len(record)
        start = len(self.slots) * len(record)
        self.full = self.full or start + len(record) > self.limit
        if self.full:
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self.folder, buffering=0)  # noqa: SIM115  lives as long as this
        try:
            self._file.seek(start)
            self.full = self._file.write(record) != len(record)
        except OSError:  # no space on the disk
            self.full = True
        if not self.full:
            self.slots[key] = len(self.slots)

    def in_words(self) -> str:
        """Return the number of kept views and their size, in words."""
        size = len(self.slots) * self.record_bytes / MIB
        return f"{len(self.slots)} views kept, {size:.0f} MiB{' (full)' if self.full and self.limit else ''}"


def packed(features: Features, classes: np.ndarray) -> np.ndarray:
    """Return the record of an image: the bytes of its maps, channels last, and of its class ids (S, S) uint8."""
    flat = (x.detach().cpu().permute(0, 2, 3, 1).contiguous().view(-1).view(torch.uint8) for x in features.maps())
    return np.concatenate([*(x.numpy() for x in flat), classes.ravel()])


def unpacked(record: np.ndarray, like: Features) -> tuple[Features, np.ndarray]:
    """Return the maps of a record, of the shapes and types of ``like``, and the class ids, over the record's memory."""
    left = torch.from_numpy(record)

    def next_map(x: Tensor) -> Tensor:
        nonlocal left
        values, left = left[: x.nbytes], left[x.nbytes :]
        batch, channels, height, width = x.shape
        return values.view(x.dtype).view(batch, height, width, channels).permute(0, 3, 1, 2)

    features, side = like.each(next_map), math.isqrt(len(left))
    return features, left.numpy().reshape(side, side)


class KeptEpisodes:
    """Batches of training episodes with the features of their images, which are computed once for each view.

    Every view passes through the encoder alone, whether its features are kept or not: the size of the file changes no
    number. The episodes hold no pixels.

    Raises:
        UserError: the views are not fixed, or the encoder learns, or the model caches no features.
    """

    def __init__(self, dataset: EpisodeDataset, network: PreparedNetwork, file: RecordFile, key: str):
        self.dataset, self.network, self.file = dataset, network, file
        self.model = cast(FewShotModel, network.network)
        self._like: Features | None = None  # shapes and types of an image's maps
        encoder = getattr(self.model, "encoder", None)
        learns = encoder is None or any(p.requires_grad for p in encoder.parameters())
        if learns or dataset.views is None:
            mend = f"{self.model.title} has none; set it to null" if learns else f"set {key}.views to their number"
            raise UserError(f"{key}.cache_gib keeps the features of fixed views by a frozen encoder: {mend}")

    def batches(self, numbers: Iterable[list[int]]) -> Iterator[Episode]:
        """Yield the batch of each list of episode numbers, in order, on the network's device."""
        for some in numbers:
            episodes: list[Episode] = []
            queries: list[CachedFeatures] = []
            supports: list[CachedFeatures] = []
            for key in map(self.dataset.sampler, some):
                views = []
                for slot, row in enumerate((key.query, *key.supports)):
                    is_support = slot != QUERY_SLOT
                    features, classes = self._view(self.dataset.view_key(row, key, slot), is_support)
                    views.append((torch.zeros(3, *classes.shape, dtype=torch.uint8), classes))
                    (supports if is_support else queries).append(features.each(lambda x: x.to(self.network.device)))
                episodes.append(self.dataset.assemble(key, views))
            batch = replace(collate(episodes), cached_query=queries, cached_support=supports)
            yield batch.to(self.network.device)

    def _view(self, view: ViewKey, is_support: bool) -> tuple[Features, np.ndarray]:
        masked = is_support and self.model.masks_supports
        record = self.file.get((view, masked))
        if record is None:
            image, classes = self.dataset.fixed_view(view)
            label = numbered(classes, [self.dataset.index.value_of(view.class_id)])
            image, label = image[None].to(self.network.device), label[None].to(self.network.device)
            with torch.no_grad(), self.network.autocast():
                cached = self.model.cache_support(image[None], label[None]) if masked else self.model.cache_query(image)
            features = cast(Features, cached)
            self._like = self._like or features.each(lambda x: x.to("meta"))
            record = packed(features, classes)  # kept or not, features take the same way: equal to the last bit
            self.file.put((view, masked), record)
        return unpacked(record, cast(Features, self._like))
