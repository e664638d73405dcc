"""Which precision is faster on this CPU: the one in use or the other, timed on a small part of the run."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from util.config.settings import Config
from util.run.network import PreparedNetwork

log = logging.getLogger("symnet")
LONG, FEW = 600, 100  # seconds of a run that is worth a word; parts of one that never is
GAIN = 1.1  # least quotient of the times
ROUNDS = 2  # the faster counts


def say_faster_precision(
    config: Config, prepared: PreparedNetwork, part: str, times: float, do: Callable[[PreparedNetwork], object]
) -> None:
    """Log that the precision not in use is faster here, on a CPU, in a run of ten minutes or more; else log nothing.

    A copy of the network does the part in both precisions; the run's own network and random state do not change.

    Args:
        part: that is timed, in words.
        times: how often this process does it in the run.
        do: does it once.
    """
    if prepared.device.type != "cpu" or config.run.compile or times < FEW:
        return
    own, other = prepared.precision, "float32" if prepared.precision == "bf16" else "bf16"
    seconds: dict[str, float] = {}
    network = copy.deepcopy(prepared.network)
    with torch.random.fork_rng(devices=[]):
        for turn in range(1 + ROUNDS):  # the first is not counted: kernels are made ready
            for precision in (own, other):
                started = time.perf_counter()
                do(replace(prepared, network=network, learner=network, precision=precision))
                taken = time.perf_counter() - started
                if taken * times < LONG and precision == own:
                    return
                if turn:
                    seconds[precision] = min(taken, seconds.get(precision, taken))
    if seconds[own] > GAIN * seconds[other]:
        log.info(
            "%s would take %.2g s in %s here instead of %.2g s: run.precision=%s",
            *(part, seconds[other], other, seconds[own], other),
        )
