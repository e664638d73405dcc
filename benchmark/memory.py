"""Peak memory of evaluation and training step, ours beside plain, each in a fresh process.

CPU: resident memory of the process, which holds Python, torch and the network before the first episode. GPU: what torch
has allocated.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from typing import Any

from benchmark.conditions import add_common_options, add_network_options, conditions, prepare, progress, tell
from benchmark.drawn import SIZES, check
from benchmark.process import Case, measure
from benchmark.ways import OURS, PLAIN, TRAINED, TRAINING_BATCH, WAYS
from util.cli import numbers, words

HEADER = ["case", "ours MiB", "naive MiB", "ours / naive", "ours peak MiB", "naive peak MiB"]


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
        case = Case(name, options.backbone, size, 1, threads=options.threads, device=str(device))
        cases = [replace(case, shots=count) for count in shots]
        if name in TRAINED:
            cases.append(replace(case, batch=TRAINING_BATCH, training=True))
        rows += [_row(case) for case in cases]
    title = "MiB above what network and episode take, and the peak of all the process holds"
    return tell(options, stated, {title: (HEADER, [_line(row) for row in rows])}, rows)


def _row(case: Case) -> dict[str, Any]:
    """Return a case with what both ways took."""
    row = asdict(case)
    del row["way"]
    for way in WAYS:
        progress(f"{case.model}, {case.size} px, {case.shots}-shot, batch {case.batch}, {way}")
        (outcome,) = measure([replace(case, way=way)])
        row |= {f"{way}_mib": max(outcome.peaks) - outcome.before, f"{way}_peak_mib": max(outcome.peaks)}
    return row


def _line(row: dict[str, Any]) -> list[str]:
    """Return a row of the table."""
    what = f"training, batch {row['batch']}" if row["training"] else "evaluation"
    ours, plain = row[f"{OURS}_mib"], row[f"{PLAIN}_mib"]
    return [
        f"{row['model']} {row['backbone']}, {row['size']} px, {row['shots']}-shot {what}",
        *(f"{n:.0f}" for n in (ours, plain)),
        f"{ours / plain:.0%}",
        *(f"{row[f'{way}_peak_mib']:.0f}" for way in WAYS),
    ]
