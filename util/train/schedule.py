"""The steps of a training stage, and the progress of a run through them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from util.config.settings import StageSettings
from util.errors import UserError


@dataclass
class StepSchedule:
    """The number of optimiser steps of a stage; a checkpoint can only continue under the same one."""

    steps_per_epoch: int
    steps: int
    batch: int  # over all processes

    @classmethod
    def from_settings(cls, stage: StageSettings, epoch_length: int, processes: int, key: str) -> StepSchedule:
        """Return the schedule of a stage for epochs of so many examples.

        Raises:
            UserError: the batch is too small for the processes and the parts of an accumulated batch.
        """
        total = stage.batch * processes if stage.batch_per == "process" else stage.batch
        if total < processes * stage.accumulate:
            raise UserError(
                f"{key}.batch = {total} in all is too small for {processes} processes and {key}.accumulate = "
                f"{stage.accumulate}; at least {processes * stage.accumulate}"
            )
        per_epoch = max(epoch_length // total, 1)
        return cls(per_epoch, per_epoch * stage.epochs, total)

    @staticmethod
    def most_processes(stage: StageSettings, key: str) -> int:
        """Return into how many processes the batch of a stage can be split.

        Every part of an accumulated batch holds an image, in the base stage two, since batch norm learns there.
        """
        part = 2 if key == "base_stage" else 1
        return stage.batch // (part * stage.accumulate)

    @property
    def epochs(self) -> int:
        """The number of epochs of the whole stage."""
        return self.steps // self.steps_per_epoch


@dataclass
class Progress:
    """The position of a run and its history, kept in its checkpoints."""

    step: int = 0  # steps done
    best: float = -math.inf
    best_epoch: float = 0  # n - 0.5 is the middle of epoch n
    minutes: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)  # a record per epoch and per validation midway
    totals: dict[str, float] = field(default_factory=dict)  # sums of the losses since the epoch began

    @property
    def on_record(self) -> bool:
        """Whether the newest record is of this step, or the run has not begun."""
        return self.step == (self.history[-1]["step"] if self.history else 0)
