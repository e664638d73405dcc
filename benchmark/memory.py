"""Measure the peak memory of an evaluation episode and a training step, each in a fresh process.

On a CPU: resident memory of the process, which includes Python, torch and the network. On a GPU: memory that torch
allocated.
"""

from __future__ import annotations

import argparse
from typing import Any

from benchmark.cases import add_options as add_options
from benchmark.cases import cases_of, describe
from benchmark.process import Case, measure
from benchmark.reporting import conditions, progress, report, set_up
from benchmark.ways import OURS, PLAIN, WAYS

HEADER = ["case", "ours MiB", "naive MiB", "ours / naive", "ours peak MiB", "naive peak MiB"]


def run(options: argparse.Namespace) -> int:
    """Measure every case and print the table."""
    cases, clock = cases_of(options), set_up(options)
    measured_under = conditions(clock, options.threads)
    rows = [_measured(case, options.threads, str(clock.device)) for case in cases]
    title = "MiB above the memory of network and episode, and the peak of the whole process"
    return report(options, measured_under, {title: (HEADER, [_line(row) for row in rows])}, rows)


def _measured(case: dict[str, Any], threads: int, device: str) -> dict[str, Any]:
    """Return a case with the memory of both ways."""
    row = dict(case)
    for way in WAYS:
        progress(f"{describe(case)}, {way}")
        (outcome,) = measure([Case(**case, way=way, threads=threads, device=device)])
        row |= {f"{way}_mib": max(outcome.peaks) - outcome.before, f"{way}_peak_mib": max(outcome.peaks)}
    return {**row, "ours_over_naive": row[f"{OURS}_mib"] / row[f"{PLAIN}_mib"]}


def _line(row: dict[str, Any]) -> list[str]:
    """Return a line of the table."""
    above, peaks = ([f"{row[f'{way}_{what}']:.0f}" for way in WAYS] for what in ("mib", "peak_mib"))
    return [describe(row), *above, f"{row['ours_over_naive']:.2f}", *peaks]
