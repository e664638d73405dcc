"""Seconds of functions that take turns, so that a machine that slows down slows them all."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

from util.engine.device import CUDA

WALL, CPU = "wall", "cpu"
CLOCKS = (WALL, CPU)

Seconds = dict[str, list[float]]  # name -> one measurement per round


@dataclass(frozen=True)
class Clock:
    """Reads a device's time: ``wall``, or ``cpu`` for the processor time of this process over all its threads."""

    device: torch.device
    kind: str = WALL

    def __call__(self) -> float:
        """Return seconds, after the device's queued work."""
        if self.device.type == CUDA:
            torch.cuda.synchronize(self.device)
        return time.perf_counter() if self.kind == WALL else time.process_time()

    def of(self, run: Callable[[], object]) -> float:
        """Return the seconds of one call."""
        start = self()
        run()
        return self() - start


def in_turns(runs: dict[str, Callable[[], object]], rounds: int, clock: Clock) -> Seconds:
    """Call each function once unmeasured, then all of them in turn, ``rounds`` times."""
    for run in runs.values():
        run()
    out: Seconds = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            out[name].append(clock.of(run))
    return out


def quotient(seconds: Seconds, name: str, unit: str) -> float:
    """Return the median over rounds of how many times as long as ``unit`` a function took in the same round."""
    return median(a / b for a, b in zip(seconds[name], seconds[unit], strict=True))
