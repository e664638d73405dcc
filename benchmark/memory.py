"""Peak memory of evaluation and training step, ours beside plain, each in a fresh process.

CPU: resident memory of the process, which holds Python, torch and the network before the first episode. GPU: what torch
has allocated.
"""

from __future__ import annotations

import argparse
from typing import Any

from benchmark.cases import add_options as add_options
from benchmark.cases import cases, in_words
from benchmark.process import Case, measure
from benchmark.reporting import conditions, prepare, progress, tell
from benchmark.ways import OURS, PLAIN, WAYS

HEADER = ["case", "ours MiB", "naive MiB", "ours / naive", "ours peak MiB", "naive peak MiB"]


def run(options: argparse.Namespace) -> int:
    """Measure every case and print the table."""
    asked, clock = cases(options), prepare(options)
    stated = conditions(clock, options.threads)
    rows = [_measured(case, options.threads, str(clock.device)) for case in asked]
    title = "MiB above what network and episode take, and the peak of all the process holds"
    return tell(options, stated, {title: (HEADER, [_line(row) for row in rows])}, rows)


def _measured(case: dict[str, Any], threads: int, device: str) -> dict[str, Any]:
    """Return a case with what both ways took."""
    row = dict(case)
    for way in WAYS:
        progress(f"{in_words(case)}, {way}")
        (outcome,) = measure([Case(**case, way=way, threads=threads, device=device)])
        row |= {f"{way}_mib": max(outcome.peaks) - outcome.before, f"{way}_peak_mib": max(outcome.peaks)}
    return {**row, "ours_over_naive": row[f"{OURS}_mib"] / row[f"{PLAIN}_mib"]}


def _line(row: dict[str, Any]) -> list[str]:
    """Return a row of the table."""
    above, peaks = ([f"{row[f'{way}_{what}']:.0f}" for way in WAYS] for what in ("mib", "peak_mib"))
    return [in_words(row), *above, f"{row['ours_over_naive']:.2f}", *peaks]
