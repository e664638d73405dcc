"""What every command takes and states: device, threads, repeats; machine, versions and date; tables and JSON."""

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
REPEATS = 5  # an odd number has a median
CPUINFO, MODEL_LINE = Path("/proc/cpuinfo"), "model name"

Rows = list[dict[str, Any]]  # the tables' lines as numbers, for JSON


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add what every command takes."""
    parser.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda")
    parser.add_argument("--threads", type=whole, default=THREADS, help=f"of the CPU; default {THREADS}")
    parser.add_argument("--repeats", type=whole, default=REPEATS, help=f"measured rounds; default {REPEATS}")
    parser.add_argument(
        "--clock", default=WALL, choices=CLOCKS, help="cpu: the process's own processor time, for a machine with others"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what was measured there")


def whole(text: str) -> int:
    """Return a whole number of at least 1, as the type of an option.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of at least 1")
    return int(text)


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Add what commands on networks take."""
    sides = ", ".join(f"{name} {size}" for name, size in SIZES.items())
    parser.add_argument("--size", type=whole, help=f"image side in pixels; default the published one ({sides})")
    parser.add_argument("--backbone", default="resnet50")


def prepare(options: argparse.Namespace) -> Clock:
    """Set the number of threads and return the clock of the device.

    Raises:
        UserError: the device is not there, or processor time is asked for on one that is none.
    """
    torch.set_num_threads(options.threads)
    device = pick_device(options.device)
    if options.clock != WALL and device.type != "cpu":
        raise UserError(f"--clock {options.clock} means nothing on {device}; leave it out")
    return Clock(device, options.clock)


def conditions(clock: Clock, threads: int) -> dict[str, Any]:
    """Return under which conditions this process measures."""
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
    named = [line.partition(":")[2].strip() for line in lines if line.startswith(MODEL_LINE)]
    return named[0] if named else platform.processor() or platform.machine()


def tell(
    options: argparse.Namespace, stated: dict[str, Any], tables: dict[str, tuple[list[str], list]], rows: Rows
) -> int:
    """Print conditions and tables (title -> header and lines), write the JSON; return the exit status."""
    print("{machine}; {device}, {threads} threads, {clock} clock; load {load:.1f} at the start".format(**stated))
    print("torch {torch}, Python {python}, {date}".format(**stated))
    for title, (header, lines) in tables.items():
        print(f"\n{title}\n{text_table(header, lines)}")
    if options.json:
        content = {"command": options.what, "conditions": stated, "rows": rows}
        write_atomically(options.json, json.dumps(content, indent=1) + "\n")
    return 0


def progress(text: str) -> None:
    """Say what is being measured, beside the tables."""
    print(text, file=sys.stderr, flush=True)
