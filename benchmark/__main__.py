"""Time and peak memory, ours beside a plain reference: ``python -m benchmark [dcama] [ssp] [--shot 1,5]``."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

import torch

from util.cli import numbers
from util.report.table import text_table

SIZES = {"dcama": 384, "ssp": 473}  # published sides in pixels
COLUMNS = ["model, px, shots", "ours s", "naive s", "faster", "encoder s", "ours MiB", "naive MiB", "memory"]


def row(name: str, backbone: str, size: int, shots: int, device: str) -> list[str]:
    """Return a line of the table; each way is measured in a fresh process."""
    found = {}
    for way in ("ours", "naive", "encoder"):
        words = [name, way, backbone, str(size), str(shots), device]
        done = subprocess.run([sys.executable, "-m", "benchmark.measure", *words], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"error: {way} of {name}: {done.stderr.strip().splitlines()[-1]}")
        found[way] = json.loads(done.stdout)
    seconds, mib = ({way: values[key] for way, values in found.items()} for key in ("seconds", "mib"))
    return [
        f"{name} {backbone}, {size}, {shots}",
        *(f"{seconds[way]:.2f}" for way in ("ours", "naive")),
        f"{seconds['naive'] / seconds['ours']:.2f} x",
        f"{seconds['encoder']:.2f}",
        *(f"{mib[way]:.0f}" for way in ("ours", "naive")),
        f"{mib['ours'] / mib['naive']:.0%}",
    ]


def main() -> None:
    """Measure what is asked for, one after the other, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmark", description=__doc__)
    parser.add_argument("models", nargs="*", help="dcama, ssp; default both")
    parser.add_argument("--shot", default="1,5")
    parser.add_argument("--size", type=int, help="image side; default the published one")
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    if unknown := set(options.models) - SIZES.keys():
        parser.error(f"{unknown.pop()} is none of {', '.join(SIZES)}")
    shots = numbers("--shot", options.shot)
    cases = [(name, options.size or SIZES[name], shot) for name in options.models or SIZES for shot in shots]
    rows = []
    for name, size, shot in cases:
        rows.append(row(name, options.backbone, size, shot, options.device))
        print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    where = torch.cuda.get_device_name() if options.device.startswith("cuda") else "one CPU thread"
    print(f"one episode in evaluation, float32, {where}, torch {torch.__version__}; encoder: K + 1 passes, one by one")
    print(text_table(COLUMNS, rows))


if __name__ == "__main__":
    main()
