"""The options and the report of every command: device, threads, repeats; machine, versions, date; tables and JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from benchmark.synthetic import SIZES
from benchmark.timing import CLOCKS, WALL, Clock
from util.engine.device import CUDA, describe, pick_device
from util.errors import UserError
from util.files import write_atomically
from util.parallel import usable_cores
from util.report.table import text_table

THREADS = 2
REPEATS = 5  # an odd number, so that the median is one of the measurements
CPUINFO, MODEL_LINE = Path("/proc/cpuinfo"), "model name"  # Linux

Rows = list[dict[str, Any]]  # the lines of the tables as numbers, for JSON
Table = tuple[list[str], list[list[str]]]  # header and lines


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command."""
    parser.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda")
    parser.add_argument("--threads", type=whole, default=THREADS, help=f"of the CPU; default {THREADS}")
    parser.add_argument("--repeats", type=whole, default=REPEATS, help=f"measured rounds; default {REPEATS}")
    parser.add_argument(
        "--clock", default=WALL, choices=CLOCKS, help="cpu: processor time of the process, for machines with other load"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the measurements to this file")


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that measure networks."""
    sides = ", ".join(f"{name} {size}" for name, size in SIZES.items())
    parser.add_argument("--size", type=whole, help=f"image side in pixels; default the published one ({sides})")
    parser.add_argument("--backbone", default="resnet50")


def whole(text: str) -> int:
    """Convert an option to an integer of at least 1.

    Raises:
        ArgumentTypeError: the text is no such integer.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of at least 1")
    return int(text)


def set_up(options: argparse.Namespace) -> Clock:
    """Set the number of threads and return a clock for the device.

    Raises:
        UserError: the device is missing, or has no processor time.
    """
    torch.set_num_threads(options.threads)
    device = pick_device(options.device)
    if options.clock != WALL and device.type != "cpu":
        raise UserError(f"--clock {options.clock}: measures the CPU only, and the device is {device}; omit --clock")
    return Clock(device, options.clock)


def conditions(clock: Clock, threads: int) -> dict[str, Any]:
    """Return the conditions of a measurement in this process."""
    return {
        "machine": f"{cpu_model()}, {usable_cores()} cores",
        "device": describe(clock.device) if clock.device.type == CUDA else clock.device.type,
        "threads": threads,
        "clock": clock.kind,
        "load": os.getloadavg()[0],
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def cpu_model() -> str:
    """Return the processor's name."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(MODEL_LINE)]
    return names[0] if names else platform.processor() or platform.machine()


def report(options: argparse.Namespace, measured_under: dict[str, Any], tables: dict[str, Table], rows: Rows) -> int:
    """Print conditions and tables, write the JSON, and return the exit code 0.

    Args:
        measured_under: from ``conditions``, before the measurements.
        tables: title -> header and lines.
        rows: the measurements.
    """
    print(
        "{machine}; {device}, {threads} threads, {clock} clock; load {load:.1f} at the start".format(**measured_under)
    )
    print("torch {torch}, Python {python}, {date}".format(**measured_under))
    for title, (header, lines) in tables.items():
        print(f"\n{title}\n{text_table(header, lines)}")
    if options.json:
        content = {"command": options.what, "conditions": measured_under, "rows": rows}
        write_atomically(options.json, json.dumps(content, indent=1) + "\n")
    return 0


def progress(text: str) -> None:
    """Print the name of the measurement that starts, to stderr."""
    print(text, file=sys.stderr, flush=True)
