"""Training episodes over a frozen encoder whose maps are kept: each view of an image passes through it once."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from model.contract import FewShotModel
from model.encoders.features import Features
from model.episode import Episode
from util.data.episodes import QUERY_SLOT, EpisodeDataset, ViewKey
from util.data.trials import collate
from util.errors import UserError
from util.run.network import PreparedNetwork

GIB, MIB = 2**30, 2**20
Slot = tuple[ViewKey, bool]  # a view, and whether it was encoded as a support whose label has an influence


@dataclass(frozen=True)
class Record:
    """The layout of one record: the tensors of one image in a row, channels last, then its map of class ids."""

    stages: tuple[int, ...]
    intermediate: tuple[int, ...]  # the stage of each intermediate feature
    shapes: tuple[tuple[int, int, int, int], ...]  # (1, C, h, w)
    dtypes: tuple[torch.dtype, ...]
    side: int

    @staticmethod
    def of(features: Features, side: int) -> Record:
        """Return the layout of an image's features."""
        inner = tuple(stage for stage, maps in features.intermediate.items() for _ in maps)
        tensors = tensors_of(features)
        shapes, dtypes = zip(*((tuple(x.shape), x.dtype) for x in tensors))
        return Record(tuple(features.stage), inner, shapes, dtypes, side)

    @property
    def nbytes(self) -> int:
        """Size of a record in bytes."""
        return sum(self._sizes()) + self.side**2

    def _sizes(self) -> list[int]:
        return [int(np.prod(shape)) * dtype.itemsize for shape, dtype in zip(self.shapes, self.dtypes)]

    def bytes_of(self, features: Features, classes: np.ndarray) -> bytes:
        """Return the record of an image."""
        parts = (x.permute(0, 2, 3, 1).contiguous().view(-1).view(torch.uint8).numpy() for x in tensors_of(features))
        return b"".join((*(part.tobytes() for part in parts), np.ascontiguousarray(classes).tobytes()))

    def read(self, raw: memoryview) -> tuple[Features, np.ndarray]:
        """Return features and map of class ids of a record, as copies of its bytes."""
        flat, tensors, start = torch.from_numpy(np.frombuffer(raw, np.uint8).copy()), [], 0
        for (batch, channels, height, width), dtype, size in zip(self.shapes, self.dtypes, self._sizes()):
            values = flat[start : start + size].view(dtype).view(batch, height, width, channels)
            tensors.append(values.permute(0, 3, 1, 2))
            start += size
        stage = dict(zip(self.stages, tensors))
        inner: dict[int, list[Tensor]] = {s: [] for s in dict.fromkeys((*self.intermediate, *self.stages))}
        for s, x in zip(self.intermediate, tensors[len(self.stages) :], strict=True):
            inner[s].append(x)
        return Features(stage, inner), flat[start:].numpy().reshape(self.side, self.side)


def tensors_of(features: Features) -> list[Tensor]:
    """Return all maps of an image on the CPU: stages, then intermediate features."""
    return [x.detach().cpu() for x in (*features.stage.values(), *chain(*features.intermediate.values()))]


class FeatureFile:
    """A bounded, memory-mapped file of records of one size; it has no name and vanishes with the process.

    Args:
        folder: where the file is; it takes as much of the disk as it holds.
        gib: its maximal size in GiB; 0 keeps nothing.
    """

    def __init__(self, folder: Path, gib: float):
        self.folder, self.limit = folder, int(gib * GIB)
        self.slots: dict[Slot, int] = {}
        self.record: Record | None = None
        self.full = self.limit == 0
        self._file: Any = None
        self._map: Any = None

    def get(self, key: Slot) -> tuple[Features, np.ndarray] | None:
        """Return the features and the class ids of a view, None if they are not kept."""
        slot = self.slots.get(key)
        if slot is None or self.record is None:
            return None
        size = self.record.nbytes
        return self.record.read(memoryview(self._map)[slot * size : (slot + 1) * size])

    def put(self, key: Slot, features: Features, classes: np.ndarray) -> None:
        """Keep a view's features and class ids, unless the file or the disk is full."""
        if self.full:
            return
        if self.record is None:
            self._open(Record.of(features, len(classes)))
        record = cast(Record, self.record)
        start = len(self.slots) * record.nbytes
        if start + record.nbytes > self.limit:
            self.full = True
            return
        try:
            written = os.pwrite(self._file.fileno(), record.bytes_of(features, classes), start)
        except OSError:  # no space on the disk
            written = 0
        if written != record.nbytes:
            self.full = True
            return
        self.slots[key] = len(self.slots)

    def _open(self, record: Record) -> None:
        self.record = record
        self.limit = self.limit // record.nbytes * record.nbytes
        if not self.limit:
            self.full = True
            return
        self._file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115  # it lives as long as this object
        self._file.truncate(self.limit)  # sparse: blocks are taken as records are written
        self._map = mmap.mmap(self._file.fileno(), self.limit, access=mmap.ACCESS_READ)

    def in_words(self) -> str:
        """Return the number of kept views and their size, in words."""
        size = 0 if self.record is None else len(self.slots) * self.record.nbytes
        return f"{len(self.slots)} views kept, {size / MIB:.0f} MiB{' (full)' if self.full and self.limit else ''}"


class KeptEpisodes:
    """Batches of training episodes with the features of their images, which are computed once for each view.

    Every view passes through the encoder alone, whether its features are kept or not: the size of the file changes no
    number. The episodes hold no pixels.

    Raises:
        UserError: the views are not fixed, or the encoder learns, or the model caches no features.
    """

    def __init__(self, dataset: EpisodeDataset, network: PreparedNetwork, file: FeatureFile, key: str):
        if dataset.views is None:
            raise UserError(f"{key}.cache_gib keeps the features of fixed views: set {key}.views to their number")
        model = cast(FewShotModel, network.network)
        encoder = getattr(model, "encoder", None)
        if encoder is None or any(p.requires_grad for p in encoder.parameters()):
            raise UserError(
                f"{key}.cache_gib keeps the features of a frozen encoder, but {model.title} has none here; set it to "
                "null (and model.encoder.learn too, if a part of the encoder learns by it)"
            )
        self.dataset, self.network, self.model, self.file = dataset, network, model, file

    def batches(self, numbers: Iterable[list[int]]) -> Iterator[Episode]:
        """Yield the batch of each list of episode numbers, in order, on the network's device."""
        for some in numbers:
            yield self._batch(some).to(self.network.device)

    def _batch(self, numbers: list[int]) -> Episode:
        episodes: list[Episode] = []
        queries: list[Features] = []
        supports: list[Features] = []
        for number in numbers:
            key = self.dataset.sampler(number)
            views = []
            for slot, row in enumerate((key.query, *key.supports)):
                features, classes = self._view(self.dataset.view_key(row, key, slot), slot != QUERY_SLOT)
                pixels = torch.zeros(3, *classes.shape, dtype=torch.uint8)
                views.append((pixels, classes))
                (queries if slot == QUERY_SLOT else supports).append(features)
            episodes.append(self.dataset.assemble(key, views))
        joined = collate(episodes)
        device = self.network.device
        return replace(
            joined,
            cached_query=[_on(f, device) for f in queries],
            cached_support=[_on(f, device) for f in supports],
        )

    def _view(self, view: ViewKey, is_support: bool) -> tuple[Features, np.ndarray]:
        key = (view, is_support and self.model.masks_supports)
        found = self.file.get(key)
        if found is None:
            image, classes = self.dataset.fixed_view(view)
            label = self.dataset.label(classes, view)
            features = self._encoded(image, label, key[1])
            self.file.put(key, features, classes)
            record = Record.of(features, len(classes))  # kept or not, features take the same way: equal to the last bit
            found = record.read(memoryview(record.bytes_of(features, classes)))
        return found

    def _encoded(self, image: Tensor, label: Tensor, as_support: bool) -> Features:
        device = self.network.device
        image, label = image.to(device), label.to(device)
        with torch.no_grad(), self.network.autocast():
            if as_support:
                features = self.model.cache_support(image[None, None], label[None, None])
            else:
                features = self.model.cache_query(image[None])
        return cast(Features, features)


def _on(features: Features, device: torch.device) -> Features:
    stage = {s: x.to(device) for s, x in features.stage.items()}
    return Features(stage, {s: [x.to(device) for x in maps] for s, maps in features.intermediate.items()})
