"""Measure the time of an evaluation episode and a training step, in seconds and in passes of a plain encoder.

The measured functions take turns. The unit, one image through the plain encoder, is measured in every round of every
case; a result in units is the median over rounds.
"""

from __future__ import annotations

import argparse
from statistics import median
from typing import Any

from benchmark.cases import add_options as add_options
from benchmark.cases import cases_of, describe
from benchmark.reporting import conditions, progress, report, set_up
from benchmark.synthetic import build, episode
from benchmark.timing import Clock, Seconds, in_turns, quotient
from benchmark.ways import OURS, PLAIN, WAYS, encoder_pass, make

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
    rows = [_measured(case, options.repeats, clock) for case in cases]
    title = f"seconds and units per episode, median of {options.repeats}; a unit is one image through the plain encoder"
    lines = [[describe(row), *(f"{row[key]:.2f}" for key in COLUMNS.values())] for row in rows]
    return report(options, measured_under, {title: (["case", *COLUMNS], lines)}, rows)


def _measured(case: dict[str, Any], rounds: int, clock: Clock) -> dict[str, Any]:
    """Return a case with its seconds and units per episode."""
    progress(describe(case))
    network = build(case["model"], case["backbone"], case["size"], case["shots"]).to(clock.device)
    inputs = episode(case["size"], case["shots"], clock.device, case["batch"])
    runs = {UNIT: encoder_pass(PLAIN, network, inputs), OUR_ENCODER: encoder_pass(OURS, network, inputs)}
    runs |= {way: make(case["stage"], case["model"], way, network, inputs) for way in WAYS}
    seconds = in_turns(runs, rounds, clock)
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
