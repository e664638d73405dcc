"""Measurements in fresh processes: their peak memory, and several of them beside each other."""

from __future__ import annotations

import contextlib
import resource
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from threading import Barrier

import torch

from benchmark.drawn import build, episode
from benchmark.timing import WALL, Clock
from benchmark.ways import EVALUATION, OURS, make
from util.engine.configure_process import configure_process
from util.engine.device import CUDA
from util.errors import UserError

MIB = 2**20
KIB = 2**10
STATUS, PEAK_LINE, RESIDENT_LINE = Path("/proc/self/status"), "VmHWM", "VmRSS"  # Linux
RESET, RESET_PEAK = Path("/proc/self/clear_refs"), "5"

_start: Barrier | None = None  # at which the processes of a pool wait for each other


@dataclass(frozen=True)
class Case:
    """What one process measures: so many calls of one way through one model."""

    model: str
    backbone: str
    size: int
    shots: int
    batch: int = 1
    stage: str = EVALUATION
    way: str = OURS
    calls: int = 1
    warm_up: bool = False  # one call before the measured ones; the peak then counts from after it
    threads: int = 1
    device: str = "cpu"
    clock: str = WALL


@dataclass(frozen=True)
class Outcome:
    """What a process found; memory in MiB."""

    before: float  # with network and episode in memory
    peaks: list[float]  # the highest so far after each call, the process's own memory (or the GPU's)
    seconds: list[float]


def measure(cases: list[Case]) -> list[Outcome]:
    """Return the outcome of each case; all run at once, each in a fresh process, and start together.

    Raises:
        UserError: a process ended before its time, usually for want of memory.
    """
    context = get_context("spawn")
    barrier = context.Barrier(len(cases))
    with ProcessPoolExecutor(len(cases), context, _keep, (barrier,)) as pool:
        try:
            return list(pool.map(_measure, cases))
        except BrokenProcessPool:
            raise UserError(f"{cases[0]}: the process was ended, probably for want of memory; lower --size") from None


def _keep(barrier: Barrier) -> None:
    global _start
    configure_process()  # as a command does
    _start = barrier


def _measure(case: Case) -> Outcome:
    torch.set_num_threads(case.threads)
    device = torch.device(case.device)
    network = build(case.model, case.backbone, case.size, case.shots).to(device)
    drawn = episode(case.size, case.shots, device, case.batch)
    run = make(case.stage, case.model, case.way, network, drawn)
    if case.warm_up:
        run()
    _start.wait()
    clock = Clock(device, case.clock)
    before, peaks, seconds = _resident(device), [], []
    for _ in range(case.calls):
        seconds.append(clock.of(run))
        peaks.append(_peak(device))
    return Outcome(before, peaks, seconds)


def _resident(device: torch.device) -> float:
    """Return the memory in use, and let the peak start from it where the system can."""
    if device.type == CUDA:
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device) / MIB
    with contextlib.suppress(OSError):
        RESET.write_text(RESET_PEAK)
    return _status(RESIDENT_LINE)


def _peak(device: torch.device) -> float:
    """Return the most memory in use so far."""
    if device.type == CUDA:
        return torch.cuda.max_memory_allocated(device) / MIB
    return _status(PEAK_LINE)


def _status(name: str) -> float:
    """Return a line of the process's status in MiB; without such a file the peak that the system counted."""
    if not STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB / MIB
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * KIB / MIB
