"""Measure the time (``speed``) or the peak memory (``memory``) of methods, in evaluation episodes and training steps.

Networks have random weights and images are noise with a brighter rectangle of an eighth of the image: costs depend on
neither, but on the share of the image that the object covers. Every case runs in a fresh process.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from datetime import datetime, timezone
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmark.measure import EVALUATION, TRAINING, Case, peak_memory, seconds
from model.registry import class_of, models
from util import cli
from util.config.compose import config_path
from util.config.read import read_config
from util.errors import UserError, nearest
from util.files import write_atomically
from util.report.table import Table
from util.run.device import describe, pick_device

COLUMNS = {
    "speed": {"s": "seconds", "units": "units", "s of a unit": "unit_seconds", "encoder units": "encoder_units"},
    "memory": {"MiB above network and episode": "mib", "MiB of the process": "peak_mib"},
}
TRAINING_BATCH = 4


def command() -> int:
    """Measure the cases of the command line, print the table and return 0."""
    parser = cli.Parser(prog="python -m benchmark", description=__doc__)
    parser.add_argument("what", choices=COLUMNS)
    parser.add_argument("--models", help="such as symnet,ssp; default all")
    parser.add_argument("--net", help="an encoder, such as resnet101; default resnet50 where the method takes it")
    parser.add_argument("--shot", type=cli.numbers, default="1,5", help="shots of the evaluation episodes; default 1,5")
    parser.add_argument("--stages", default=f"{EVALUATION},{TRAINING}", help="default both: evaluation,training")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="section.key=value")
    parser.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU; default 2")
    parser.add_argument("--repeats", type=int, default=5, help="measured rounds of speed; default 5")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the measurements to this file")
    options = parser.parse_args()
    cases = _cases(options)
    measured_under = {
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "device": describe(pick_device(options.device)),
        "load": os.getloadavg()[0],
        "torch": torch.__version__,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    measure = seconds if options.what == "speed" else peak_memory
    rows: list[dict[str, Any]] = []
    for case in cases:
        print(case, file=sys.stderr, flush=True)
        with get_context("spawn").Pool(1) as pool:  # inherits no memory
            rows.append({"case": str(case), **pool.apply(measure, (case,))})
    columns = COLUMNS[options.what]
    print("; ".join(f"{key} {value}" for key, value in measured_under.items()))
    print(Table(["case", *columns], [[row["case"], *(f"{row[key]:.2f}" for key in columns.values())] for row in rows]))
    if options.json:
        content = {"command": options.what, "conditions": measured_under, "rows": rows}
        write_atomically(options.json, json.dumps(content, indent=1) + "\n")
    return 0


def _cases(options: Any) -> list[Case]:
    """Return the cases of a command line, every config of them read."""
    names, stages = cli.words(options.models or ",".join(models())), cli.words(options.stages)
    if wrong := [stage for stage in stages if stage not in (EVALUATION, TRAINING)]:
        raise UserError(f"--stages: '{wrong[0]}' is no stage{nearest(wrong[0], (EVALUATION, TRAINING))}")
    out = []
    for name in names:
        net = options.net if options.net or name not in models() else models()[name].default_net or "resnet50"
        path = config_path("split0", "pascal", name, net)
        common = (options.device, options.threads, options.repeats)
        for stage, shots in [(EVALUATION, shot) for shot in options.shot] + [(TRAINING, 1)]:
            config = read_config(path, [*options.overrides, f"data.shot={shots}", "data.text=none"])
            if stage in stages and (stage == EVALUATION or class_of(config.model).learns):
                out.append(Case(name, config, stage, 1 if stage == EVALUATION else TRAINING_BATCH, *common))
    return out


def _processor() -> str:
    """Return the processor's name."""
    facts = Path("/proc/cpuinfo")  # Linux
    lines = facts.read_text().splitlines() if facts.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


if __name__ == "__main__":
    cli.main(command)
