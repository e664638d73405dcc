"""A network in training: its optimisers, its schedule and its position."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch.optim import Optimizer

from util.loop.interrupt import Interrupt
from util.loop.network import PreparedNetwork
from util.loop.optim import EMA, OptimizerRule, StepSchedule
from util.loop.processes import ProcessGroup


@dataclass
class Progress:
    """The position of a run and its history, kept in its checkpoints."""

    step: int = 0  # steps done
    best: float = -math.inf
    best_epoch: float = 0  # n - 0.5 is the middle of epoch n
    minutes: float = 0.0
    processor_minutes: float = 0.0  # of the processor, with those of the base stage
    peak_mib: float = 0.0  # the largest memory of a process, without a GPU's
    history: list[dict[str, Any]] = field(default_factory=list)  # a record per epoch and per validation midway
    totals: dict[str, float] = field(default_factory=dict)  # sums of the losses since the epoch began
    counts: dict[str, int] = field(default_factory=dict)  # steps since then that had each loss
    skipped: int = 0  # steps since then that were left out
    ended_by: str = ""  # the observer that ended the training before its last step

    @property
    def cost(self) -> dict[str, float]:
        """The machine's time and memory that the training took, by their names in checkpoints and results."""
        return {"processor_minutes": self.processor_minutes, "peak_mib": self.peak_mib}

    @property
    def on_record(self) -> bool:
        """Whether the newest record is of this step, or the run has not begun."""
        return self.step == (self.history[-1]["step"] if self.history else 0)


@dataclass
class Training:
    """A network in training for one stage."""

    prepared: PreparedNetwork
    optimizers: dict[str, Optimizer]
    rules: Mapping[str, OptimizerRule]  # the rate and schedule of each optimiser
    ema: EMA
    schedule: StepSchedule
    world: ProcessGroup
    accumulate: int = 1  # parts of a local batch, whose gradients are added
    seed: int = 0  # of the dropout masks
    progress: Progress = field(default_factory=Progress)
    interrupt: Interrupt = field(default_factory=Interrupt)

    @cached_property
    def scaler(self) -> torch.amp.GradScaler:
        """Of the losses in fp16, whose gradients would be too small; it does nothing in other precisions."""
        return torch.amp.GradScaler(self.prepared.device.type, enabled=self.prepared.precision == "fp16")

    @property
    def ends_epoch(self) -> bool:
        """Whether the newest step is the last one of an epoch."""
        return self.progress.step % self.schedule.steps_per_epoch == 0
