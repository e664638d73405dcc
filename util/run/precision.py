"""Which precision is faster on this CPU: the one in use or the other, timed on a small part of the run."""

import contextlib
import copy
import logging
import time
from collections.abc import Callable
from typing import Any

import torch

from util.config.settings import Config
from util.run.device import autocast
from util.run.network import PreparedNetwork
from util.run.processes import World

log = logging.getLogger("symnet")
LONG, FEW = 600, 100  # seconds of a run that is worth a word; parts of one that never is
GAIN = 1.1  # least quotient of the times
ROUNDS = 3


def say_faster_precision(
    config: Config,
    world: World,
    prepared: PreparedNetwork,
    part: str,
    times: int,
    load: Callable[[], Any],
    do: Callable[[Any, Any], Any],
) -> None:
    """Log that the precision not in use is faster here, on a CPU, in a run of ten minutes or more; else log nothing.

    A copy of the network does the part in both precisions, in every process, as losses are averaged over processes; the
    run's own network and random state do not change.

    Args:
        part: that is timed, in words.
        times: how often the processes do it in the run, all together.
        load: returns what the part reads; called where it is timed.
        do: does it once, with the copy and with that.
    """
    if prepared.device.type != "cpu" or config.run.compile or times < FEW:
        return
    own, other = prepared.precision, "float32" if prepared.precision == "bf16" else "bf16"
    seconds: dict[str, list[float]] = {own: [], other: []}
    network, batch = copy.deepcopy(prepared.network), load()
    with torch.random.fork_rng(devices=[]), contextlib.suppress(RuntimeError, TypeError):  # not all is made for bf16
        for precision in ROUNDS * (own, other):
            started = time.perf_counter()
            with autocast(prepared.device, precision):
                do(network, batch)
            seconds[precision].append(time.perf_counter() - started)
            if world.any(min(seconds[own]) * times < LONG * world.size):
                return
        now, then = (min(seconds[p][1:]) for p in (own, other))  # in the first round kernels are made ready
        if now > GAIN * then:
            log.info("%s: %.2g s in %s, %.2g s in %s here: run.precision=%s", part, now, own, then, other, other)
