"""Folds: which classes are novel, which are base, and what the base learner calls them. The one place that knows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from model.contract import IGNORE
from util.settings import DataSettings


@dataclass(frozen=True)
class Fold:
    """One split of classes 1..n into novel and base ones.

    ``contiguous``: fold i of f tests classes i n/f + 1 .. (i + 1) n/f; ``interleaved``: i + 1, i + 1 + f, ...
    """

    classes: int
    folds: int
    number: int
    rule: str

    @classmethod
    def of(cls, data: DataSettings) -> Fold:
        """Return the fold that the settings name."""
        return cls(len(data.classes), data.folds, data.fold, data.fold_rule)

    @cached_property
    def novel(self) -> tuple[int, ...]:
        """Class ids (1-based, ascending) that are tested and never trained on."""
        if self.rule == "interleaved":
            return tuple(range(self.number + 1, self.classes + 1, self.folds))
        size = self.classes // self.folds
        return tuple(range(self.number * size + 1, (self.number + 1) * size + 1))

    @cached_property
    def base(self) -> tuple[int, ...]:
        """Class ids (1-based, ascending) that are trained on."""
        return tuple(c for c in range(1, self.classes + 1) if c not in self.novel)

    @cached_property
    def base_table(self) -> np.ndarray:
        """Lookup (256,) uint8 from class id to base-class id: 1-based among the base classes, else 0; 255 stays."""
        table = np.zeros(256, np.uint8)
        table[list(self.base)] = np.arange(1, len(self.base) + 1)
        table[IGNORE] = IGNORE
        return table
