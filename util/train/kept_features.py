"""Training episodes over a frozen encoder whose maps are kept: each view of an image passes through it once."""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from model.contract import FewShotMethod
from model.encoders.encoder import Features
from model.tensors.mask import Mask
from util.files.sizes import GIB
from util.weights import checkpoint

KEPT_GIB = 12  # of disk at most, of half of what the checkpoints leave of it; no number depends on it


class RecordFile:
    """A file of records by key, of at most so many GiB (0: none) on the disk of a folder.

    It has no name, takes as much of the disk as it holds, and vanishes with the process.
    """

    def __init__(self, folder: Path, gib: float):
        self.limit = gib * GIB
        self.places = dict[str, tuple[int, int]]()  # first byte and length of each record
        self._file: Any = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115  lives as long as this

    def get(self, key: str) -> np.ndarray | None:
        """Return a record, uint8, None if it is not kept."""
        if key not in self.places:
            return None
        start, length = self.places[key]
        self._file.seek(start)
        return np.fromfile(self._file, np.uint8, length)

    def put(self, key: str, record: np.ndarray) -> None:
        """Keep a record, unless the file is full."""
        end = self._file.seek(0, os.SEEK_END)
        if end + len(record) <= self.limit:
            record.tofile(self._file)
            self.places[key] = end, len(record)


def packed(features: Features) -> np.ndarray:
    """Return the record of an image: the bytes of its maps, channels last."""
    values = [x.detach().cpu().permute(0, 2, 3, 1).contiguous().view(-1) for x in features.tensors()]
    return np.concatenate([x.view(torch.uint8).numpy() for x in values])


def unpacked(record: np.ndarray, like: Features) -> Features:
    """Return the maps of a record, of the shapes and types of ``like``, over the record's memory."""
    values = iter(torch.from_numpy(record).split([x.nbytes for x in like.tensors()]))

    def next_map(x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        return next(values).view(x.dtype).view(batch, height, width, channels).permute(0, 3, 1, 2)

    return like.each(next_map)


@dataclass
class KeptMaps:
    """The maps of images of training, which pass the encoder once.

    They are found by an image's pixels, so that whatever changes these has its effect. Every image passes the encoder
    alone, whether its maps are kept or not: the size of the file changes no number.
    """

    file: RecordFile
    _like: Features | None = None  # shapes and types of an image's maps

    def __call__(self, image_n3ss: Tensor, mask: Mask | None, encode: Callable[..., Features]) -> Features:
        """Return the features of images, on their device; of supports they may depend on their mask."""
        parts = []
        for i, image in enumerate(image_n3ss.split(1)):
            label = None if mask is None else mask.label[i : i + 1]
            key = checkpoint.digest_of({"image": image} if label is None else {"image": image, "label": label})
            record = self.file.get(key)
            if record is None:
                with torch.no_grad():
                    features = encode(image, None if label is None else Mask(label))
                self._like = features.each(lambda x: x.to("meta"))
                record = packed(features)  # kept or not, features take the same way: equal to the last bit
                self.file.put(key, record)
            parts.append(unpacked(record, cast(Features, self._like)))
        return Features.join(parts).each(lambda x: x.to(image_n3ss.device))


def is_frozen(model: FewShotMethod) -> bool:
    """Return whether a model has an encoder, none of which learns."""
    encoder = getattr(model, "encoder", None)
    return encoder is not None and not any(p.requires_grad for p in encoder.parameters())
