"""Seconds in units of one plain encoder forward of one image: evaluation and training step, ours beside plain.

Functions take turns; a unit is measured in every round of every case, and units are medians over rounds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from benchmark.conditions import add_common_options, add_network_options, conditions, prepare, progress, tell
from benchmark.drawn import SIZES, build, check, episode
from benchmark.timing import Seconds, in_turns, quotient
from benchmark.ways import OURS, PLAIN, TRAINED, TRAINING_BATCH, WAYS, encoder_pass, evaluation, training_step
from util.cli import numbers, words

UNIT, OUR_ENCODER = "plain encoder", "our encoder"
HEADER = ["case", "ours s", "naive s", "ours units", "naive units", "ours / naive", "unit s", "our encoder units"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    add_network_options(parser, ",".join(SIZES))
    parser.add_argument("--shot", default="1,5", help="shots of the evaluation episodes; default 1,5")
    add_common_options(parser)


def run(options: argparse.Namespace) -> int:
    """Measure every case and print the table."""
    names, shots = words(options.models), numbers("--shot", options.shot)
    check(names, options.size)
    device = prepare(options)
    stated, rows = conditions(device, options.threads), []
    for name in names:
        size = options.size or SIZES[name]
        for count in shots:
            case = {"model": name, "backbone": options.backbone, "size": size, "shots": count, "batch": 1}
            rows.append(_measure(evaluation, {**case, "what": "evaluation"}, options.repeats, device))
        if name in TRAINED:
            case = {"model": name, "backbone": options.backbone, "size": size, "shots": 1, "batch": TRAINING_BATCH}
            rows.append(_measure(training_step, {**case, "what": "training"}, options.repeats, device))
    title = f"seconds and units per episode, median of {options.repeats}; a unit is one image through the plain encoder"
    return tell(options, stated, {title: (HEADER, [_line(row) for row in rows])}, rows)


def _measure(make: Callable, case: dict[str, Any], rounds: int, device: torch.device) -> dict[str, Any]:
    """Return a case with its seconds and units per episode."""
    name, size, shots, batch = (case[key] for key in ("model", "size", "shots", "batch"))
    progress(f"{name}, {size} px, {shots}-shot {case['what']}")
    network = build(name, case["backbone"], size, shots).to(device)
    drawn = episode(size, shots, device, batch)
    runs = {UNIT: encoder_pass(PLAIN, network, drawn), OUR_ENCODER: encoder_pass(OURS, network, drawn)}
    runs |= {way: make(name, way, network, drawn) for way in WAYS}
    seconds = in_turns(runs, rounds, device)
    return {**case, **_per_episode(seconds, batch), "rounds": seconds}


def _per_episode(seconds: Seconds, batch: int) -> dict[str, float]:
    """Return the medians: seconds and units of an episode, both encoders, and ours over naive."""
    return {
        "unit_seconds": median(seconds[UNIT]),
        "our_encoder_units": quotient(seconds, OUR_ENCODER, UNIT),
        **{f"{way}_seconds": median(seconds[way]) / batch for way in WAYS},
        **{f"{way}_units": quotient(seconds, way, UNIT) / batch for way in WAYS},
        "ours_over_naive": quotient(seconds, OURS, PLAIN),
    }


def _line(row: dict[str, Any]) -> list[str]:
    """Return a row of the table."""
    what = row["what"] if row["batch"] == 1 else f"{row['what']} in batches of {row['batch']}"
    numbers = [row[key] for key in ("ours_seconds", "naive_seconds", "ours_units", "naive_units", "ours_over_naive")]
    numbers += [row["unit_seconds"], row["our_encoder_units"]]
    return [
        f"{row['model']} {row['backbone']}, {row['size']} px, {row['shots']}-shot {what}",
        *(f"{n:.2f}" for n in numbers),
    ]
