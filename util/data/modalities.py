"""What a method reads of each photo beside its colours, such as its depth, from the sources that a config names."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.episode import Modality
from util.files.errors import UserError, ask


@dataclass(frozen=True)
class Source:
    """The source of one modality of the photos."""

    name: str  # of the modality
    modality: Modality
    read: Callable[[Path, int], Any]  # registered, see ``MODALITIES`` in util/config/settings.py

    def planes(self, photo: Path, class_id: int, height: int, width: int) -> np.ndarray:
        """Return the modality of a photo, (C, height, width) float32; UserError: it cannot be had, or is another."""
        what = f"{self.name} of {photo}"
        planes = ask(what, self._read, photo, class_id)
        wanted = (self.modality.channels, height, width)
        if planes.shape != wanted:
            shapes = f"is {planes.shape}, not {wanted} (channels, height, width) as the method and the photo"
            raise UserError(f"{what} {shapes}; mend data.modalities.{self.name}")
        return planes

    def _read(self, photo: Path, class_id: int) -> np.ndarray:
        values = np.asarray(self.read(photo, class_id), np.float32)
        return np.moveaxis(values, -1, 0).copy() if values.ndim == 3 else values[None]
