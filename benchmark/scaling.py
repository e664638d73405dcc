"""How the cost of Sym-Net's evaluation grows with image size, shots, batch size and processes; memory over episodes.

Seconds are per episode and medians. Where a cost is linear in shots, each added shot costs the same; where memory is
flat, the peak after many episodes is that after one.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from statistics import median
from typing import Any

import torch

from benchmark.process import Case, Outcome, measure
from benchmark.reporting import add_common_options, add_network_options, conditions, prepare, progress, tell, whole
from benchmark.synthetic import SIZES, build, check, episode
from benchmark.timing import Clock, in_turns
from benchmark.ways import EVALUATION, OURS, make
from util.cli import numbers
from util.engine.device import places

MODEL = "symnet"
MEGAPIXEL = 1e6
EPISODES = 16


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    add_network_options(parser)
    parser.add_argument("--sizes", default="193,289,385,473", help="image sides; default 193,289,385,473")
    parser.add_argument("--shot", default="1,5,10", help="default 1,5,10")
    parser.add_argument("--batches", default="1,2,4", help="batch sizes; default 1,2,4")
    parser.add_argument("--processes", default="1,2", help="default 1,2")
    parser.add_argument("--episodes", type=whole, default=EPISODES, help=f"of each process; default {EPISODES}")
    add_common_options(parser)


def run(options: argparse.Namespace) -> int:
    """Measure along every axis and print the tables."""
    size = options.size or SIZES[MODEL]
    sizes = numbers("--sizes", options.sizes)
    for side in (size, *sizes):
        check((MODEL,), side)
    clock = prepare(options)
    stated = conditions(clock, options.threads)
    case = Case(MODEL, options.backbone, size, 1, threads=options.threads, device=str(clock.device), clock=clock.kind)
    along = {
        "size": [replace(case, size=side) for side in sizes],
        "shots": [replace(case, shots=count) for count in numbers("--shot", options.shot)],
        "batch": [replace(case, batch=count) for count in numbers("--batches", options.batches)],
    }
    rows, tables = [], {}
    for axis, cases in along.items():
        found = _in_this_process(axis, cases, options.repeats, clock)
        rows += found
        tables[f"{MODEL} {options.backbone}, against {axis}"] = _table(axis, found)
    counts = numbers("--processes", options.processes)
    outcomes = {count: _beside_each_other(replace(case, calls=options.episodes), count) for count in counts}
    found, memory = _rates(outcomes), _peaks(outcomes[counts[0]][0])
    tables[f"{MODEL} {options.backbone}, {size} px, processes of one thread"] = _table("processes", found)
    header, line = (["episodes", *(str(row["at"]) for row in memory)]), [f"{row['peak_mib']:.0f}" for row in memory]
    tables["peak MiB of a process after so many episodes"] = (header, [["MiB", *line]])
    return tell(options, stated, tables, rows + found + memory)


def _in_this_process(axis: str, cases: list[Case], rounds: int, clock: Clock) -> list[dict[str, Any]]:
    """Return seconds per episode of cases that take turns, and what the last step along the axis added."""
    progress(f"against {axis}")
    runs = {}
    for case in cases:
        network = build(case.model, case.backbone, case.size, case.shots).to(clock.device)
        drawn = episode(case.size, case.shots, clock.device, case.batch)
        runs[getattr(case, axis)] = make(EVALUATION, MODEL, OURS, network, drawn)
    seconds = in_turns(runs, rounds, clock)
    rows: list[dict[str, Any]] = []
    for case in cases:
        at = getattr(case, axis)
        row = {"axis": axis, "at": at, "seconds": median(seconds[at]) / case.batch}
        if axis == "size":
            row["seconds_per_megapixel"] = row["seconds"] / (at**2 / MEGAPIXEL)
        elif axis == "shots" and rows:  # equal where the cost is linear
            row["seconds_per_added_shot"] = (row["seconds"] - rows[-1]["seconds"]) / (at - rows[-1]["at"])
        rows.append(row)
    return rows


def _beside_each_other(case: Case, processes: int) -> list[Outcome]:
    """Return what so many processes of one thread find that start together; on GPUs each takes the next one."""
    progress(f"{processes} processes")
    spread = places(torch.device(case.device), processes)
    return measure([replace(case, threads=1, warm_up=True, device=str(place)) for place in spread])


def _rates(outcomes: dict[int, list[Outcome]]) -> list[dict[str, Any]]:
    """Return episodes per second over all processes of a count, and seconds per episode."""
    rates = {count: sum(1 / median(one.seconds) for one in found) for count, found in outcomes.items()}
    return [{"axis": "processes", "at": n, "seconds": 1 / rate, "per_second": rate} for n, rate in rates.items()]


def _peaks(outcome: Outcome) -> list[dict[str, Any]]:
    """Return the peak of one process after 1, 2, 4, ... episodes."""
    calls = len(outcome.peaks)
    counts = [2**i for i in range(calls.bit_length()) if 2**i <= calls]
    return [{"axis": "episodes", "at": n, "peak_mib": outcome.peaks[n - 1]} for n in counts]


def _table(axis: str, rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return header and lines; what a row does not have stays empty."""
    keys = list(dict.fromkeys(key for row in rows for key in row if key not in ("axis", "at")))
    lines = [[str(row["at"]), *(f"{row[key]:.3f}" if key in row else "" for key in keys)] for row in rows]
    return [axis, *(key.replace("_", " ") for key in keys)], lines
