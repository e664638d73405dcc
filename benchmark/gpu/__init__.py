"""Measure and check everything that needs a GPU, in slices, and write a report: ``report.json`` and ``report.md``.

Needs torch and torchvision alone; parts that need more packages, real data or measured cases which are not there are
skipped, and the report says so. The state is on disk after every unit: the same command continues. Exit code 0 at the
end of a slice or of the report, 1 at the end of a report with failures.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from util.errors import UserError

MINUTES, SLICE_MINUTES = 40.0, 9.0
SECONDS_PER_MINUTE = 60
MARKDOWN = "report.md"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the report and of its work")
    parser.add_argument(
        "--minutes", type=_minutes, default=MINUTES, help=f"of all slices together, about; default {MINUTES:g}"
    )
    parser.add_argument(
        "--slice-minutes", type=_minutes, default=SLICE_MINUTES, help=f"of this command; default {SLICE_MINUTES:g}"
    )
    parser.add_argument("--quick", action="store_true", help="a trial of every part with small networks, on a CPU too")


def run(options: argparse.Namespace) -> int:
    """Run a slice of the report and return the exit code.

    Raises:
        UserError: no GPU, or the folder holds another report.
    """
    from benchmark.gpu.page import errors, page
    from benchmark.gpu.runner import run_parts
    from benchmark.gpu.settings import Settings
    from benchmark.gpu.state import State
    from util.files import write_atomically

    if not options.quick and not torch.cuda.is_available():
        raise UserError("no CUDA device here; --quick tries every part on the CPU, without measuring")
    device = "cpu" if options.quick else "cuda:0"
    state = State(options.out)
    state.check_same(quick=options.quick, device=device)
    budget, now = options.minutes * SECONDS_PER_MINUTE, time.time()
    settings = Settings(
        out=options.out.resolve(),
        device=device,
        quick=options.quick,
        budget_ends=now + budget - state.content["spent_s"],
        slice_ends=now + options.slice_minutes * SECONDS_PER_MINUTE,
        budget=budget,
    )
    finished = state.content["finished"]
    try:
        finished = finished or run_parts(settings)
    finally:
        state = State(options.out)
        state.content["spent_s"] += time.time() - now
        state.content["slices"] += not state.content["finished"]
        state.content["finished"] = finished
        state.write()
        write_atomically(options.out / MARKDOWN, page(state))
    failed = errors(state)
    rest = "finished" if finished else "the slice is over, the same command continues"
    print(f"{options.out / MARKDOWN}: {rest}; {len(failed)} failed")
    return 1 if finished and failed else 0


def _minutes(text: str) -> float:
    """Convert an option to a positive number.

    Raises:
        ArgumentTypeError: the text is no such number.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is no positive number of minutes")
    return value
