"""Rates, peak memory and utilisation of a device; a CPU has no utilisation here."""

from __future__ import annotations

import gc
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from benchmark.process import peak, resident
from benchmark.timing import Clock
from benchmark.ways import Run
from util.engine.device import CUDA, OUT_OF_MEMORY

SAMPLE_SECONDS = 0.1  # between two readings of NVML, which averages over a sixth of a second to a second
SETTLING = 4  # the first of so many parts of the readings still shows the time before
NVML, EVENTS = "nvml", "events"
MIN_CALLS, MAX_CALLS = 3, 300
SECONDS = 3.0  # of a measurement, about
WARM_UP = 3  # calls: allocator, cuDNN's plans, optimiser's state


@dataclass(frozen=True)
class Rate:
    """The cost of one call.

    Attributes:
        seconds: wall-clock time of a call among others, the device's queue never waited for.
        peak_mib: peak memory in MiB, on a GPU what torch allocated, on a CPU what the process held.
        utilisation: share of time in which the GPU was busy; None on a CPU.
        read_by: NVML, or CUDA events, which count gaps between the kernels of a call as busy.
    """

    seconds: float
    peak_mib: float
    utilisation: float | None
    read_by: str | None
    calls: int

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return asdict(self)


class Utilisation:
    """A context that reads a GPU's utilisation; ``call`` runs a function between two CUDA events."""

    def __init__(self, device: torch.device):
        self.device, self.on_gpu = device, device.type == CUDA
        self._readings: list[float] = []
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self.seconds = 0.0

    def __enter__(self) -> Utilisation:
        self._clock = Clock(self.device)
        if self.on_gpu:
            self._thread.start()
        self._started = self._clock()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        if self.on_gpu:
            self._thread.join()
        if error[0] is None:  # after an error on a GPU a synchronisation would hide it behind another
            self.seconds = self._clock() - self._started

    def call(self, run: Callable[[], object]) -> None:
        """Run a function whose work on the device counts as busy from its first kernel to its last."""
        if not self.on_gpu:
            run()
            return
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        self._events.append((start, end))

    def share(self) -> tuple[float | None, str | None]:
        """Return the busy share of the context's time, and which of both ways read it; None where neither did."""
        if self._readings:
            return statistics.mean(self._readings[len(self._readings) // SETTLING :]), NVML
        if self._events and self.seconds:
            busy = sum(start.elapsed_time(end) for start, end in self._events) / 1e3
            return min(busy / self.seconds, 1.0), EVENTS
        return None, None

    def _read(self) -> None:
        try:
            while not self._stop.wait(SAMPLE_SECONDS):
                self._readings.append(torch.cuda.utilization(self.device) / 100)
        except Exception:  # pynvml or the driver's library is missing: the events are taken
            self._readings.clear()


def measure(run: Run, device: torch.device, quick: bool, seconds: float = SECONDS) -> Rate:
    """Return the cost of a function over calls that are queued one behind the other."""
    calls = 1
    if not quick:
        for _ in range(WARM_UP):
            run()
        calls = min(max(round(seconds / Clock(device).of(run)), MIN_CALLS), MAX_CALLS)
    resident(device)  # resets the peak
    with Utilisation(device) as busy:
        for _ in range(calls):
            busy.call(run)
    share, read_by = busy.share()
    return Rate(busy.seconds / calls, peak(device), share, read_by, calls)


def largest(batch: int, attempt: Callable[[int], Rate], device: torch.device) -> tuple[int, Rate]:
    """Return the largest batch, a power of two below ``batch``, that fits into memory, and its rate.

    Raises:
        OutOfMemoryError: a batch of one does not fit.
    """
    while True:
        try:
            return batch, attempt(batch)
        except OUT_OF_MEMORY:
            if batch == 1:
                raise
        # outside of the handler, whose traceback holds the tensors
        batch //= 2
        free(device)


def free(device: torch.device) -> None:
    """Return the memory that torch keeps unused to the GPU."""
    gc.collect()
    if device.type == CUDA:
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()


def now() -> float:
    """Return the time in seconds, for durations."""
    return time.monotonic()
