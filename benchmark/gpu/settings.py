"""The settings of a slice of the report, its clock, and the exceptions by which a unit says that it has no result."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from util.engine.device import CUDA
from util.engine.network import FLOAT32

SECONDS_PER_MINUTE = 60
TRAINING_SHARE = 0.3  # of the budget that no other part may use
ERRORS = "errors"  # key of a result: lines about what failed in a unit that goes on
BF16 = "bf16"  # a value of run.precision
WORK = "work"  # folder of data, caches and runs, in that of the report


class Skipped(Exception):
    """A unit that cannot run here; the message is the reason."""


class Unfinished(Exception):
    """A unit that the end of the slice has interrupted; the same unit continues in the next slice."""


@dataclass(frozen=True)
class Settings:
    """The settings that all units of a slice share.

    Attributes:
        out: the folder of the report.
        device: such as cuda:0 or cpu.
        quick: whether every measurement is reduced to a trial of the code.
        budget_ends, slice_ends: times (``time.time``) at which the budget and this slice are spent.
        budget: all seconds of the report.
    """

    out: Path
    device: str
    quick: bool
    budget_ends: float
    slice_ends: float
    budget: float

    @property
    def place(self) -> torch.device:
        """The device."""
        return torch.device(self.device)

    @property
    def work(self) -> Path:
        """The folder of everything but the report itself."""
        return self.out / WORK

    @property
    def mixed(self) -> str:
        """The precision of the fast ways: bf16 on a GPU; on a CPU, many of which emulate bf16 slowly, float32."""
        return BF16 if self.place.type == CUDA else FLOAT32

    def slice_left(self) -> float:
        """Return the seconds until the slice ends."""
        return self.slice_ends - time.time()

    def budget_left(self) -> float:
        """Return the seconds of the budget that are left."""
        return self.budget_ends - time.time()

    def reserved(self) -> float:
        """Return the seconds of the budget that are kept for the training."""
        return TRAINING_SHARE * self.budget
