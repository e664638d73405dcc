"""Modalities: further planes of each photo, such as its depth, from the sources that a config names."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from model.episode import Modality
from util.data.lists.index import Index
from util.files.errors import UserError, call_foreign


@dataclass(frozen=True)
class Source:
    """The source of one modality of the photos."""

    name: str  # of the modality
    modality: Modality
    read: Callable[[Path, int], Any] | None  # see ``MODALITIES`` in util/config/settings.py; None: none is named

    def planes(self, index: Index, row: int, class_id: int) -> np.ndarray:
        """Return the modality of an image, (C, H, W) float32; UserError: it cannot be had, or is no such array."""
        if self.read is None:
            raise UserError(
                f"the method reads {self.name} beside the colours of photos such as {index.images[row]}",
                fix=f"name a registered source of it, data.modalities: {{{self.name}: SOURCE}}",
            )
        what = f"data.modalities.{self.name}: that of {index.images[row]}"
        planes = call_foreign(what, self._read, index.images[row], class_id)
        wanted = (self.modality.channels, *index.sizes[row].tolist())
        if planes.shape != wanted or not np.isfinite(planes).all():
            raise UserError(
                f"{what} is no array of finite numbers of shape {wanted} (channels, height, width), but {planes.shape}",
                fix="mend its source",
            )
        return planes

    def _read(self, photo: Path, class_id: int) -> np.ndarray:
        values = np.asarray(cast(Any, self.read)(photo, class_id), np.float32)
        return np.moveaxis(values, -1, 0).copy() if values.ndim == 3 else values[None]
