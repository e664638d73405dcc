"""How Sym-Net's evaluation grows with image size, shots, batch size and processes, and that memory does not.

Seconds are per episode and medians; a process of the last but one table has one thread.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from statistics import median
from typing import Any

import torch

from benchmark.conditions import add_common_options, add_network_options, conditions, prepare, progress, tell
from benchmark.drawn import SIZES, build, check, episode
from benchmark.process import Case, measure
from benchmark.timing import in_turns
from benchmark.ways import OURS, evaluation
from util.cli import numbers

MODEL = "symnet"
MEGAPIXEL = 1e6


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    add_network_options(parser)
    parser.add_argument("--sizes", default="193,289,385,473", help="image sides; default 193,289,385,473")
    parser.add_argument("--shot", default="1,5,10", help="default 1,5,10")
    parser.add_argument("--batches", default="1,2,4", help="batch sizes; default 1,2,4")
    parser.add_argument("--processes", default="1,2", help="default 1,2")
    parser.add_argument("--episodes", type=int, default=16, help="of the table of memory; default 16")
    add_common_options(parser)


def run(options: argparse.Namespace) -> int:
    """Measure along every axis and print the tables."""
    size = options.size or SIZES[MODEL]
    sizes = numbers("--sizes", options.sizes)
    for side in (size, *sizes):
        check((MODEL,), side)
    device = prepare(options)
    stated = conditions(device, options.threads)
    case = Case(MODEL, options.backbone, size, 1, threads=options.threads, device=str(device))
    along = {
        "size": [replace(case, size=side) for side in sizes],
        "shots": [replace(case, shots=count) for count in numbers("--shot", options.shot)],
        "batch": [replace(case, batch=count) for count in numbers("--batches", options.batches)],
    }
    rows, tables = [], {}
    for axis, cases in along.items():
        found = _in_this_process(axis, cases, options.repeats, device)
        rows += found
        tables[f"{MODEL} {options.backbone}, against {axis}"] = _table(axis, found)
    found = [_beside_each_other(case, count, options.repeats) for count in numbers("--processes", options.processes)]
    tables[f"{MODEL} {options.backbone}, {size} px, processes of one thread"] = _table("processes", found)
    memory = _memory(replace(case, calls=options.episodes, warm_up=True))
    header = ["episodes", *(str(row["episodes"]) for row in memory)]
    tables["peak MiB of a process after so many episodes"] = (
        header,
        [["MiB", *(f"{r['peak_mib']:.0f}" for r in memory)]],
    )
    return tell(options, stated, tables, rows + found + memory)


def _in_this_process(axis: str, cases: list[Case], rounds: int, device: torch.device) -> list[dict[str, Any]]:
    """Return seconds per episode of cases that take turns, and what the last step along the axis added."""
    progress(f"against {axis}")
    runs = {}
    for case in cases:
        network = build(case.model, case.backbone, case.size, case.shots).to(device)
        drawn = episode(case.size, case.shots, device, case.batch)
        runs[getattr(case, axis)] = evaluation(MODEL, OURS, network, drawn)
    seconds = in_turns(runs, rounds, device)
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


def _beside_each_other(case: Case, processes: int, rounds: int) -> dict[str, Any]:
    """Return seconds per episode, over all, of so many processes at once; on GPUs each takes the next one."""
    progress(f"{processes} processes")
    gpus = torch.cuda.device_count()
    places = [f"cuda:{i % gpus}" if case.device.startswith("cuda") else case.device for i in range(processes)]
    alone = replace(case, threads=1, calls=rounds, warm_up=True)
    outcomes = measure([replace(alone, device=place) for place in places])
    rate = sum(1 / median(outcome.seconds) for outcome in outcomes)
    return {"axis": "processes", "at": processes, "seconds": 1 / rate, "episodes_per_second": rate}


def _memory(case: Case) -> list[dict[str, Any]]:
    """Return the peak of one process after 1, 2, 4, ... episodes."""
    progress(f"memory over {case.calls} episodes")
    (outcome,) = measure([case])
    counts = [2**i for i in range(case.calls.bit_length()) if 2**i <= case.calls]
    return [{"axis": "episodes", "episodes": n, "peak_mib": outcome.peaks[n - 1]} for n in counts]


def _table(axis: str, rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return header and lines; what a row does not have stays empty."""
    keys = list(dict.fromkeys(key for row in rows for key in row if key not in ("axis", "at")))
    lines = [[str(row["at"]), *(f"{row[key]:.3f}" if key in row else "" for key in keys)] for row in rows]
    return [axis, *(key.replace("_", " ") for key in keys)], lines
