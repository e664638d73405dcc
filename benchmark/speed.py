"""Measure the time of an evaluation episode and a training step, in seconds and in passes of a plain encoder.

Ours and the plain implementation have a process each, with the allocator that each would have by itself, and take
turns. The unit, one image through the plain encoder in the plain implementation's process, is measured in every round
of every case; a result in units is the median over rounds.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from functools import partial
from statistics import median
from typing import Any

from benchmark.cases import add_options as add_options
from benchmark.cases import cases_of, describe
from benchmark.reporting import conditions, progress, report, set_up
from benchmark.timing import Clock, Seconds, quotient
from benchmark.ways import OURS, PLAIN, WAYS
from benchmark.worker import ENCODER, EPISODE, Task, Worker

UNIT, OUR_ENCODER = "plain encoder", "our encoder"
COLUMNS = {
    "ours s": "ours_seconds",
    "naive s": "naive_seconds",
    "ours units": "ours_units",
    "naive units": "naive_units",
    "ours / naive": "ours_over_naive",
    "unit s": "unit_seconds",
    "our encoder units": "our_encoder_units",
}


def run(options: argparse.Namespace) -> int:
    """Measure every case and print the table."""
    cases, clock = cases_of(options), set_up(options)
    measured_under = conditions(clock, options.threads)
    rows = [_measured(case, options, clock) for case in cases]
    title = f"seconds and units per episode, median of {options.repeats}; a unit is one image through the plain encoder"
    lines = [[describe(row), *(f"{row[key]:.2f}" for key in COLUMNS.values())] for row in rows]
    return report(options, measured_under, {title: (["case", *COLUMNS], lines)}, rows)


def _measured(case: dict[str, Any], options: argparse.Namespace, clock: Clock) -> dict[str, Any]:
    """Return a case with its seconds and units per episode."""
    progress(describe(case))
    tasks = {way: Task(case, way, options.threads, str(clock.device), clock.kind) for way in WAYS}
    with ExitStack() as stack:
        workers = {way: stack.enter_context(Worker(task)) for way, task in tasks.items()}
        for worker in workers.values():
            worker.ready()
        turns = {
            UNIT: partial(workers[PLAIN].seconds, ENCODER),
            PLAIN: partial(workers[PLAIN].seconds, EPISODE),
            OUR_ENCODER: partial(workers[OURS].seconds, ENCODER),
            OURS: partial(workers[OURS].seconds, EPISODE),
        }
        rounds = [{name: turn() for name, turn in turns.items()} for _ in range(options.repeats)]
    seconds = {name: [of_round[name] for of_round in rounds] for name in turns}
    return {**case, **_per_episode(seconds, case["batch"]), "rounds": seconds}


def _per_episode(seconds: Seconds, batch: int) -> dict[str, float]:
    """Return medians: seconds and units of an episode, both encoders, and the ratio of ours to the reference."""
    return {
        "unit_seconds": median(seconds[UNIT]),
        "our_encoder_units": quotient(seconds, OUR_ENCODER, UNIT),
        **{f"{way}_seconds": median(seconds[way]) / batch for way in WAYS},
        **{f"{way}_units": quotient(seconds, way, UNIT) / batch for way in WAYS},
        "ours_over_naive": quotient(seconds, OURS, PLAIN),
    }
