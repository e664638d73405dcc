"""Measure functions that take turns, so that a slowdown of the machine affects all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

import torch

from util.engine.device import CUDA

WALL, CPU = "wall", "cpu"
CLOCKS = (WALL, CPU)

Name = TypeVar("Name", str, int)
Seconds = dict[str, list[float]]  # name -> one measurement per round


@dataclass(frozen=True)
class Clock:
    """A clock for work on a device: ``wall`` time, or ``cpu`` for the processor time of all threads of this process."""

    device: torch.device
    kind: str = WALL

    def __call__(self) -> float:
        """Return the time in seconds, after the device has finished its queued work."""
        if self.device.type == CUDA:
            torch.cuda.synchronize(self.device)
        return time.perf_counter() if self.kind == WALL else time.process_time()

    def of(self, run: Callable[[], object]) -> float:
        """Return the seconds of one call."""
        start = self()
        run()
        return self() - start


def in_turns(runs: Mapping[Name, Callable[[], object]], rounds: int, clock: Clock) -> dict[Name, list[float]]:
    """Call each function once without measurement, then all in turn for ``rounds`` rounds; return their seconds."""
    for run in runs.values():
        run()
    out: dict[Name, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            out[name].append(clock.of(run))
    return out


def quotient(seconds: Seconds, name: str, unit: str) -> float:
    """Return the median over rounds of a function's time divided by the time of ``unit`` in the same round."""
    return median(a / b for a, b in zip(seconds[name], seconds[unit], strict=True))
