"""Measure in fresh processes: peak memory, and several processes at the same time."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from threading import Barrier

import torch

from benchmark.synthetic import build, episode
from benchmark.timing import WALL, Clock
from benchmark.ways import EVALUATION, OURS, TRAINING, Run, make
from util.engine.configure_process import HUGE_PAGES, configure_process
from util.engine.device import CUDA
from util.errors import UserError

START_METHOD = "spawn"  # no memory is inherited from this process
MIB = 2**20
KIB = 2**10
STATUS, PEAK_LINE, RESIDENT_LINE = Path("/proc/self/status"), "VmHWM", "VmRSS"  # Linux
RESET, RESET_PEAK = Path("/proc/self/clear_refs"), "5"

_start: Barrier | None = None  # the processes of a pool wait here for each other


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The measurement of one process: a number of calls of the function that ``prepare`` returns."""

    calls: int = 1
    warm_up: bool = False  # make one call before the measured ones, which the peak leaves out
    threads: int = 1
    device: str = "cpu"
    clock: str = WALL

    def set_up(self) -> None:
        """Set up the process, before its first tensor: as a command does."""
        configure_process()

    def prepare(self, device: torch.device) -> Run:
        """Return the measured function; all that it keeps in memory exists then."""
        raise NotImplementedError


@dataclass(frozen=True)
class Case(Measurement):
    """One model, ours or the reference."""

    model: str
    backbone: str
    size: int
    shots: int
    batch: int = 1
    stage: str = EVALUATION
    way: str = OURS

    def set_up(self) -> None:
        """Leave the allocator of the plain implementation as torch has it."""
        set_up_allocator(self.way, self.stage)

    def prepare(self, device: torch.device) -> Run:
        """Return one pass over a batch of episodes."""
        network = build(self.model, self.backbone, self.size, self.shots).to(device)
        return make(self.stage, self.model, self.way, network, episode(self.size, self.shots, device, self.batch))


@dataclass(frozen=True)
class Outcome:
    """The results of a process; memory in MiB."""

    before: float  # memory of the process with network and input
    peaks: list[float]  # highest so far after each call, of the process (CPU) or of torch (GPU)
    seconds: list[float]


def set_up_allocator(way: str, stage: str) -> None:
    """Set up the allocator of this process as this project's command for a stage has it, or leave it as torch does."""
    if way == OURS:
        configure_process(stage == TRAINING)
    else:
        os.environ.pop(HUGE_PAGES, None)  # inherited; torch reads it at its first tensor


def measure(cases: Sequence[Measurement]) -> list[Outcome]:
    """Return the outcome of each case; all run at the same time, each in a fresh process, from a common start.

    Raises:
        UserError: a process was killed, usually because memory ran out.
    """
    context = get_context(START_METHOD)
    barrier = context.Barrier(len(cases))
    with ProcessPoolExecutor(len(cases), context, _keep_barrier, (barrier,)) as pool:
        try:
            return list(pool.map(_measure, cases))
        except BrokenProcessPool:
            raise UserError(
                f"{cases[0]}: the process was killed, probably because memory ran out; lower --size, or free some"
            ) from None


def _keep_barrier(barrier: Barrier) -> None:
    """Initialise a process of the pool."""
    global _start
    _start = barrier


def _measure(case: Measurement) -> Outcome:
    case.set_up()
    torch.set_num_threads(case.threads)
    device = torch.device(case.device)
    run = case.prepare(device)
    if case.warm_up:
        run()
    assert _start is not None  # set by the initialiser
    _start.wait()
    clock = Clock(device, case.clock)
    before, peaks, seconds = resident(device), [], []
    for _ in range(case.calls):
        seconds.append(clock.of(run))
        peaks.append(peak(device))
    return Outcome(before, peaks, seconds)


def resident(device: torch.device) -> float:
    """Return the memory in use in MiB, and reset the peak to it where the system can."""
    if device.type == CUDA:
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device) / MIB
    with contextlib.suppress(OSError):
        RESET.write_text(RESET_PEAK)
    return _status(RESIDENT_LINE)


def peak(device: torch.device) -> float:
    """Return the peak of the memory in use in MiB."""
    if device.type == CUDA:
        return torch.cuda.max_memory_allocated(device) / MIB
    return _status(PEAK_LINE)


def _status(name: str) -> float:
    """Return a value of /proc/self/status in MiB; the peak from ``getrusage`` on systems without that file."""
    if not STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB / MIB
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * KIB / MIB
