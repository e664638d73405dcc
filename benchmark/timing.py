"""Seconds of functions that take turns, so that a machine that slows down slows them all."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch

Seconds = dict[str, list[float]]  # name -> one measurement per round


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """Return the wall-clock seconds of one call, the device's queued work included."""
    _finish(device)
    start = time.perf_counter()
    run()
    _finish(device)
    return time.perf_counter() - start


def in_turns(runs: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> Seconds:
    """Call each function once unmeasured, then all of them in turn, ``rounds`` times."""
    for run in runs.values():
        run()
    out: Seconds = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            out[name].append(seconds_of(run, device))
    return out


def quotient(seconds: Seconds, name: str, unit: str) -> float:
    """Return the median over rounds of how many times as long as ``unit`` a function took in the same round."""
    return median(a / b for a, b in zip(seconds[name], seconds[unit], strict=True))


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
