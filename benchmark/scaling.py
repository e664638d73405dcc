"""Measure the cost of Sym-Net's evaluation against image size, shots, classes, batch, episodes and processes.

Seconds are medians, per episode; lines are fitted through all measurements. If the cost is linear in shots, each added
shot costs the same. If memory does not grow, the peak after many episodes equals the peak after one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import torch

from benchmark.linear_fit import HEADER, LinearFit, linear_fit
from benchmark.process import Case, Outcome, measure
from benchmark.reporting import (
    Rows,
    Table,
    add_common_options,
    add_network_options,
    conditions,
    progress,
    report,
    set_up,
    whole,
)
from benchmark.synthetic import SIZES, build, check_models, episode
from benchmark.timing import Clock, in_turns
from benchmark.ways import Run, of_classes
from util.cli import numbers
from util.engine.device import places

MODEL = "symnet"
PIXELS_PER_MEGAPIXEL = 1e6
EPISODES = 16  # of each process
UNITS = {"size": "megapixel", "shots": "shot", "ways": "class", "batch": "episode of a batch"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    add_network_options(parser)
    parser.add_argument("--sizes", default="193,289,385,473", help="image sides; default 193,289,385,473")
    parser.add_argument("--shot", default="1,5,10", help="default 1,5,10")
    parser.add_argument("--ways", default="1,2,5", help="classes of an episode; default 1,2,5")
    parser.add_argument("--batches", default="1,2,4", help="batch sizes; default 1,2,4")
    parser.add_argument("--processes", default="1,2", help="default 1,2")
    parser.add_argument("--episodes", type=whole, default=EPISODES, help=f"of each process; default {EPISODES}")
    add_common_options(parser)


def run(options: argparse.Namespace) -> int:
    """Measure along every axis and print the tables."""
    size = options.size or SIZES[MODEL]
    sizes = numbers("--sizes", options.sizes)
    for side in (size, *sizes):
        check_models((MODEL,), side)
    clock = set_up(options)
    measured_under = conditions(clock, options.threads)
    case = Case(MODEL, options.backbone, size, 1, threads=options.threads, device=str(clock.device), clock=clock.kind)
    batches = numbers("--batches", options.batches)
    runs_along: dict[str, Callable[[], dict[int, Run]]] = {  # built one after the other
        "size": lambda: {side: replace(case, size=side).prepare(clock.device) for side in sizes},
        "shots": lambda: {n: replace(case, shots=n).prepare(clock.device) for n in numbers("--shot", options.shot)},
        "ways": lambda: _runs_of_classes(case, numbers("--ways", options.ways), clock),
        "batch": lambda: {n: replace(case, batch=n).prepare(clock.device) for n in batches},
    }
    rows: Rows = []
    tables: dict[str, Table] = {}
    fits: dict[str, LinearFit | None] = {}
    for axis, runs in runs_along.items():
        found, fits[UNITS[axis]] = _scaled_along(axis, runs(), options.repeats, clock)
        rows += found
        tables[f"{MODEL} {options.backbone}, against {axis}"] = _axis_table(axis, found)
    counts = numbers("--processes", options.processes)
    outcomes = {count: _concurrent(replace(case, calls=options.episodes), count) for count in counts}
    rates, peaks = _rates(outcomes), _peaks(outcomes[counts[0]][0])
    one_by_one = outcomes[counts[0]][0].seconds  # a slope of 0: no episode costs more than those before it
    fits["episodes that ran before"] = linear_fit({before: [s] for before, s in enumerate(one_by_one)})
    fits["process, episodes a second"] = linear_fit({n: _sums_of_rates(found) for n, found in outcomes.items()})
    tables[f"{MODEL} {options.backbone}, {size} px, processes of one thread"] = _axis_table("processes", rates)
    tables["peak MiB of a process after so many episodes"] = (
        ["episodes", *(str(row["at"]) for row in peaks)],
        [["MiB", *(f"{row['peak_mib']:.0f}" for row in peaks)]],
    )
    lines = [fit.line(unit) for unit, fit in fits.items() if fit is not None]
    if lines:
        tables["linear fits, s unless said"] = HEADER, lines
    return report(options, measured_under, tables, rows + rates + peaks)


def _sums_of_rates(outcomes: list[Outcome]) -> list[float]:
    """Return the episodes a second over processes that run together, of each of their episodes."""
    return [sum(1 / s for s in seconds) for seconds in zip(*(one.seconds for one in outcomes))]


def _runs_of_classes(case: Case, counts: Sequence[int], clock: Clock) -> dict[int, Run]:
    network = build(case.model, case.backbone, case.size, case.shots).to(clock.device)
    inputs = episode(case.size, case.shots, clock.device)
    return {count: of_classes(network, inputs, count) for count in counts}


def _scaled_along(axis: str, runs: dict[int, Run], rounds: int, clock: Clock) -> tuple[Rows, LinearFit | None]:
    """Return the seconds per episode of runs that take turns and differ in ``axis``, and the line of the seconds."""
    progress(f"against {axis}")
    seconds = in_turns(runs, rounds, clock)
    rows: Rows = []
    for at, found in seconds.items():
        row: dict[str, Any] = {"axis": axis, "at": at, "seconds": median(found) / (at if axis == "batch" else 1)}
        if axis == "size":
            row["seconds_per_megapixel"] = row["seconds"] / (at**2 / PIXELS_PER_MEGAPIXEL)
        elif axis in ("shots", "ways") and rows:  # equal where the cost is linear
            row[f"seconds_per_added_{axis[:-1]}"] = (row["seconds"] - rows[-1]["seconds"]) / (at - rows[-1]["at"])
        rows.append(row)
    scale = {at: at**2 / PIXELS_PER_MEGAPIXEL if axis == "size" else at for at in seconds}
    return rows, linear_fit({scale[at]: found for at, found in seconds.items()})


def _concurrent(case: Case, processes: int) -> list[Outcome]:
    """Return the outcomes of processes of one thread with a common start; each takes the next GPU, if there are any."""
    progress(f"{processes} processes")
    spread = places(torch.device(case.device), processes)
    return measure([replace(case, threads=1, warm_up=True, device=str(place)) for place in spread])


def _rates(outcomes: dict[int, list[Outcome]]) -> Rows:
    """Return episodes per second over all processes, for each number of processes, and seconds per episode."""
    rates = {count: sum(1 / median(one.seconds) for one in found) for count, found in outcomes.items()}
    return [{"axis": "processes", "at": n, "seconds": 1 / rate, "per_second": rate} for n, rate in rates.items()]


def _peaks(outcome: Outcome) -> Rows:
    """Return the peak memory of one process after 1, 2, 4, ... episodes."""
    calls = len(outcome.peaks)
    counts = [2**i for i in range(calls.bit_length()) if 2**i <= calls]
    return [{"axis": "episodes", "at": n, "peak_mib": outcome.peaks[n - 1]} for n in counts]


def _axis_table(axis: str, rows: Rows) -> Table:
    """Return header and lines; values that a row lacks are empty."""
    keys = list(dict.fromkeys(key for row in rows for key in row if key not in ("axis", "at")))
    lines = [[str(row["at"]), *(f"{row[key]:.3f}" if key in row else "" for key in keys)] for row in rows]
    return [axis, *(key.replace("_", " ") for key in keys)], lines
